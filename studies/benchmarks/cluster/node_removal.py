"""A node is taken out of a real cluster in the middle of a real study.

    python studies/benchmarks/cluster/node_removal.py [--trials 12]

`starsearch run` trains proxies of spaces/starnet.yaml on the embedded digits, on a Ray cluster of a head and two nodes
on this machine. After a third of the trials a node is removed, its workers killed; the database is copied at that
moment. At the end the study must be complete, and every trial that was finished in the copy there unchanged.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from starsearch.records import load_trials

sys.path.insert(0, str(Path(__file__).parent))
from small_study import cluster


def finished(folder):
    """The finished trials by number; of a copy of the files."""
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    for file in folder.glob("study.db*"):
        shutil.copy(file, copy)
    if not (copy / "study.db").is_file():
        return None
    trials = load_trials(f"sqlite:///{copy}/study.db")
    return values_of(trials)


def values_of(trials):
    """All that the record says of the finished trials; weights come and go with the front."""
    return trials[trials["state"] == "COMPLETE"].set_index("number").drop(columns="weights")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, cluster(nodes=2, cpus=1) as found:
        runner = Path(temporary, "cluster.yaml")
        runner.write_text(f"executor: ray\naddress: {found.address}\n")
        command = ["run", "starnet", "--runner", str(runner), "--trials", str(options.trials), "--out", temporary]
        begin = time.monotonic()
        driver = subprocess.Popen([Path(sys.executable).with_name("starsearch"), *command])
        folder = Path(temporary, "starnet")
        while True:
            time.sleep(1.0)
            assert driver.poll() is None, "the study ended before the node was removed"
            before = finished(folder) if folder.is_dir() else None
            if before is not None and len(before) >= options.trials // 3:
                break
        found.remove_node(found.list_all_nodes()[-1], allow_graceful=False)
        print(f"a node removed after {time.monotonic() - begin:.0f} s, with {len(before)} trials finished", flush=True)
        assert driver.wait() == 0
        trials = load_trials(f"sqlite:///{folder}/study.db")
        after = values_of(trials)
        same = after.loc[before.index][before.columns].equals(before)
        print(f"after {time.monotonic() - begin:.0f} s: states {trials['state'].value_counts().to_dict()}")
        print(trials.loc[trials["state"] == "FAIL", ["number", "architecture_text", "reason"]].to_string())
        print(f"finished trials equal to those of the database before: {same}")
        print(f"architectures finished twice: {after['architecture'].duplicated().sum()}")


if __name__ == "__main__":
    main()
