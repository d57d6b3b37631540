"""A node is taken out of a real cluster in the middle of a real study.

    python studies/benchmarks/cluster/node_removal.py [--trials 12]

`starsearch run` trains proxies of spaces/starnet.yaml on the embedded digits, on a Ray cluster of a head and two nodes
on this machine. After a third of the trials a node is removed, its workers killed; the database is copied at that
moment. At the end the study must be complete, and every trial that was finished in the copy there unchanged.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parent))
from harness import read_options
from kills import copied, read
from small_study import cluster


def finished(trials):
    """All that the record says of the finished trials; weights come and go with the front."""
    return trials[trials["state"] == "COMPLETE"].set_index("number").drop(columns="weights")


if __name__ == "__main__":
    options = read_options(__doc__, out=False, trials=12)
    with tempfile.TemporaryDirectory() as temporary, cluster(nodes=2, cpus=1) as found:
        runner, folder = Path(temporary, "cluster.yaml"), Path(temporary, "starnet")
        runner.write_text(f"executor: ray\naddress: {found.address}\n")
        command = ["run", "starnet", "--runner", str(runner), "--trials", str(options.trials), "--out", temporary]
        began = time.monotonic()
        driver = subprocess.Popen([Path(sys.executable).with_name("starsearch"), *command])
        while True:
            time.sleep(1.0)
            assert driver.poll() is None, "the study ended before the node was removed"
            trials = read(copied(folder)) if folder.is_dir() else None
            if trials is not None and len(before := finished(trials)) >= options.trials // 3:
                break
        found.remove_node(found.list_all_nodes()[-1], allow_graceful=False)
        print(f"a node removed after {time.monotonic() - began:.0f} s, with {len(before)} trials finished", flush=True)
        assert driver.wait() == 0
        trials = read(folder)
        after = finished(trials)
        print(f"after {time.monotonic() - began:.0f} s: states {trials['state'].value_counts().to_dict()}")
        print(trials.loc[trials["state"] == "FAIL", ["number", "architecture_text", "reason"]].to_string())
        print(f"finished trials equal to those before: {after.loc[before.index][before.columns].equals(before)}")
        print(f"architectures finished twice: {after['architecture'].duplicated().sum()}")
