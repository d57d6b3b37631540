"""Drivers killed with -9 at random moments, and workers likewise: what is lost, what is counted twice, what stays.

    python studies/benchmarks/cluster/kills.py [--drivers 20] [--workers 10] [--out kills.csv]

A Ray cluster of two nodes beside its head, on this machine. Each driver is a process that runs a study of 24 trials on
it; at a moment drawn uniformly from its run it is killed, its database copied, and the study run again to its end.
Compared with the copy: every finished trial is there and unchanged, no architecture is finished twice, nothing is
RUNNING. Then likewise, but a worker process is killed, and its driver goes on.
"""

from __future__ import annotations

import argparse
import csv
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

import psutil

from starsearch.records import load_trials
from starsearch.search.ray_cluster import connected
from starsearch.study.runner_file import RayRunner

sys.path.insert(0, str(Path(__file__).parent))
from small_study import Sleeper, cluster, make_spec, ray_executor, run

TRIALS, SECONDS = 24, 0.6
COLUMNS = [
    "killed",
    "run",
    "after_s",
    "finished_before",
    "lost",
    "changed",
    "duplicates",
    "running",
    "finished",
    "retried",
]


def drive(folder, address):
    """The whole of a driver's process."""
    evaluator = Sleeper(SECONDS, str(folder / "notes"))
    runner = RayRunner(address=address)
    with connected(runner):
        make = ray_executor(runner, folder)
        run(f"sqlite:///{folder}/study.db", make_spec("killed", TRIALS), evaluator, make_executor=make)


def start(folder, address):
    (folder / "notes").mkdir(exist_ok=True)
    return subprocess.Popen([sys.executable, __file__, "--drive", str(folder), "--address", address])


def kill_driver(folder, address, number, rng, whole_s):
    process = start(folder, address)
    after = rng.uniform(0.0, whole_s)
    with suppress(subprocess.TimeoutExpired):
        process.wait(timeout=after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = read(folder, copy=True)
    assert start(folder, address).wait() == 0
    return {"killed": "driver", "run": number, "after_s": f"{after:.1f}", **compare(before, read(folder))}


def kill_worker(folder, address, number, rng):
    process = start(folder, address)
    # The last to have begun: once some have ended.
    wanted = rng.randint(3, TRIALS - 4)
    began = time.monotonic()
    while len(list((folder / "notes").iterdir())) < wanted:
        time.sleep(0.02)
    time.sleep(rng.uniform(0.0, SECONDS / 2))
    newest = max((folder / "notes").iterdir(), key=lambda path: path.stat().st_mtime)
    os.kill(int(newest.name.rsplit("-", 1)[1]), signal.SIGKILL)
    after = time.monotonic() - began
    before = read(folder, copy=True)
    assert process.wait() == 0
    return {"killed": "worker", "run": number, "after_s": f"{after:.1f}", **compare(before, read(folder))}


def read(folder, *, copy=False):
    """The trials; of a copy of the files, where they are still written or were left by a killed process."""
    if not (folder / "study.db").is_file():
        return None
    place = folder
    if copy:
        place = folder / "copy"
        place.mkdir(exist_ok=True)
        for file in folder.glob("study.db*"):
            shutil.copy(file, place)
    with suppress(Exception):
        return load_trials(f"sqlite:///{place}/study.db")
    return None


def compare(before, after):
    values = ["architecture", "top1_percent", "latency_ms", "started", "seconds"]
    finished = after[after["state"] == "COMPLETE"].set_index("number")[values]
    old = finished.iloc[:0]
    if before is not None and "top1_percent" in before:
        old = before[before["state"] == "COMPLETE"].set_index("number")[values]
    there = old.index.intersection(finished.index)
    return {
        "finished_before": len(old),
        "lost": len(old) - len(there),
        "changed": int((old.loc[there] != finished.loc[there]).any(axis=1).sum()),
        "duplicates": int(finished["architecture"].duplicated().sum()),
        "running": int((after["state"] == "RUNNING").sum()),
        "finished": len(finished),
        "retried": int((after["state"] == "FAIL").sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drivers", type=int, default=20)
    parser.add_argument("--workers", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".csv"))
    parser.add_argument("--drive", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.drive:
        drive(options.drive, options.address)
        return
    rng, rows = random.Random(options.seed), []
    with tempfile.TemporaryDirectory() as temporary, cluster() as found:
        folders = (Path(temporary, str(number)) for number in range(1000))

        def place():
            folder = next(folders)
            folder.mkdir()
            return folder

        begin = time.monotonic()
        assert start(place(), found.address).wait() == 0
        whole_s = time.monotonic() - begin
        print(f"a study of {TRIALS} trials takes {whole_s:.1f} s", flush=True)
        for number in range(options.drivers):
            rows.append(kill_driver(place(), found.address, number, rng, whole_s))
            print(rows[-1], flush=True)
        for number in range(options.workers):
            rows.append(kill_worker(place(), found.address, number, rng))
            print(rows[-1], flush=True)
    with options.out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for killed in ("driver", "worker"):
        these = [row for row in rows if row["killed"] == killed]
        sums = {name: sum(row[name] for row in these) for name in COLUMNS[3:]}
        print(f"{len(these)} {killed}s killed: {sums}")
    psutil.wait_procs(psutil.Process().children(), timeout=5)


if __name__ == "__main__":
    main()
