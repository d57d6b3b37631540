"""Drivers, workers and nodes killed at random moments: what is lost, what is counted twice, what stays.

    python studies/benchmarks/kills.py [--drivers 20] [--workers 10] [--nodes 2] [--out kills.csv]

A Ray cluster of two nodes beside its head, on this machine. Each driver is a process that runs a study of 24 trials on
it; at a moment drawn uniformly from its run it is killed, its database copied, and the study run again to its end.
Compared with the copy: every finished trial is there and unchanged, no architecture is finished twice, nothing is
RUNNING. Then likewise, but a worker process is killed, or a node removed with its workers, and the driver continues.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from harness import collected, read_options, seconds, show
from small_study import Sleeper, cluster, make_spec, ray_executor, run

from starsearch.records.table import load_trials

TRIALS, SECONDS = 24, 0.6
VALUES = ["architecture", "top1_percent", "latency_ms", "started", "seconds"]


def drive(folder, address):
    """The whole of a driver's process."""
    evaluator, make = Sleeper(SECONDS, str(folder / "notes")), ray_executor(address, folder)
    run(f"sqlite:///{folder}/study.db", make_spec("killed", TRIALS), evaluator, make_executor=make)


def start(folder, address):
    (folder / "notes").mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, __file__, "--drive", str(folder), "--address", address])


def killed_driver(folder, address, rng, whole_s):
    process = start(folder, address)
    after = rng.uniform(0.0, whole_s)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read(copied(folder))
    assert start(folder, address).wait() == 0
    return {"killed": "driver", "after_s": round(after, 1), **compare(before, read(folder))}


def killed_worker(folder, cluster, rng, what):
    process = start(folder, cluster.address)
    wanted, began = rng.randint(3, TRIALS - 4), time.monotonic()  # once some trials have ended
    while len(list((folder / "notes").iterdir())) < wanted:
        time.sleep(0.02)
    time.sleep(rng.uniform(0.0, SECONDS / 2))
    if what == "node":
        cluster.remove_node(cluster.list_all_nodes()[-1], allow_graceful=False)
    else:
        newest = max((folder / "notes").iterdir(), key=lambda path: path.stat().st_mtime)
        os.kill(int(newest.name.rsplit("-", 1)[1]), signal.SIGKILL)
    after, before = time.monotonic() - began, read(copied(folder))
    assert process.wait() == 0
    if what == "node":
        cluster.add_node(num_cpus=2)
    return {"killed": what, "after_s": round(after, 1), **compare(before, read(folder))}


def copied(folder):
    """A copy of the files that are still written, or were left by a killed process."""
    copy = folder / "copy"
    copy.mkdir(exist_ok=True)
    for file in folder.glob("study.db*"):
        shutil.copy(file, copy)
    return copy


def read(folder):
    with suppress(Exception):  # the process was killed before the study was made
        return load_trials(f"sqlite:///{folder}/study.db")
    return None


def compare(before, after):
    finished = after[after["state"] == "COMPLETE"].set_index("number")[VALUES]
    old = finished.iloc[:0]
    if before is not None and "top1_percent" in before:
        old = before[before["state"] == "COMPLETE"].set_index("number")[VALUES]
    there = old.index.intersection(finished.index)
    return {
        "finished_before": len(old),
        "lost": len(old) - len(there),
        "changed": int((old.loc[there] != finished.loc[there]).any(axis=1).sum()),
        "duplicates": int(finished["architecture"].duplicated().sum()),
        "running": int((after["state"] == "RUNNING").sum()),
        "finished": len(finished),
        "retried": int((after["state"] == "INTERRUPTED").sum()),
    }


def kills(options, cluster, temporary):
    """A row a kill."""
    rng, folder = random.Random(options.seed), lambda: Path(tempfile.mkdtemp(dir=temporary))
    whole_s = seconds(lambda: start(folder(), cluster.address).wait())
    print(f"a study of {TRIALS} trials takes {whole_s:.1f} s", flush=True)
    for _ in range(options.drivers):
        yield killed_driver(folder(), cluster.address, rng, whole_s)
    for what in ["worker"] * options.workers + ["node"] * options.nodes:
        yield killed_worker(folder(), cluster, rng, what)


if __name__ == "__main__":
    options = read_options(__doc__, drivers=20, workers=10, nodes=2, seed=0, drive=None, address="")
    if options.drive:
        drive(options.drive, options.address)
        sys.exit()
    with tempfile.TemporaryDirectory() as temporary, cluster() as found:
        rows = collected(kills(options, found, temporary), options.out)
    show(rows.groupby("killed", sort=False).sum())
