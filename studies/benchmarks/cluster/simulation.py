"""The real driver and a real study with 10 to 1,000 simulated workers: when does the driver keep them waiting?

    python studies/benchmarks/cluster/simulation.py [--workers 10 100 500 1000] [--seconds 60] [--out simulation.csv]

Trials only take simulated time: 60 s each (± 20 %), an epoch told every 20 s. The driver's own time is real, and is
added to the simulated clock: while it asks, writes or reports, workers that have ended wait. The record is a real
SQLite file, the space spaces/starnet.yaml, the sampler NSGA-II (as for any study beyond a thousand trials), and each
study has 6 trials a worker. Reported: the workers' busy share until the last trial is begun, the driver's share,
trials a second of simulated time, and how many workers it could keep busy at most (trials a second of its own time ×
a trial's length).

    python studies/benchmarks/cluster/simulation.py --asks 100 1000 3000 10000 [--alone 3000] [--out asks.csv]

The time of one ask in a study of so many trials, of opening it, and the process's memory. An ask is until a candidate
is new and keeps the space's constraints, so it depends on who made the study: each sampler makes its own, but TPE
beyond --alone trials, which would take hours, goes on with NSGA-II's.
"""

from __future__ import annotations

import argparse
import csv
import heapq
import random
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import psutil

from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.progress import Progress
from starsearch.search.proposer import Proposer

sys.path.insert(0, str(Path(__file__).parent))
from small_study import make_spec, run

EPOCHS = 3


class Simulated:
    """Workers whose clock goes on by itself only where the driver waits for them."""

    def __init__(self, workers, seconds):
        self.capacity = workers
        self.clock = self.driver_s = self.last_begin = 0.0
        self._spans = []
        self._seconds = seconds
        self._rng = random.Random(0)
        self._queue = []  # (when, order, number, epoch or None, candidate)
        self._order = 0
        self._since = time.perf_counter()

    def submit(self, job):
        self._tick()
        seconds = self._seconds * self._rng.uniform(0.8, 1.2)
        self._spans.append((self.clock, self.clock + seconds))
        self.last_begin = self.clock
        for epoch in range(1, EPOCHS + 1) if seconds else ():
            self._add(self.clock + min(seconds * epoch / EPOCHS, seconds), job, epoch)
        self._add(self.clock + seconds, job, None)

    def next(self):
        self._tick()
        when, _, job, epoch = heapq.heappop(self._queue)
        self.clock = max(self.clock, when)
        macs = count_macs(job.candidate.architecture, resolution=224)
        top1 = 40 + 10 * (macs / 1e9) ** 0.5
        self._since = time.perf_counter()  # what the simulation itself takes is nobody's
        if epoch is not None:
            progress = Progress(fraction=epoch / EPOCHS, stage="training", epoch=epoch, values={"top1_percent": top1})
            return job.number, progress
        values = {"top1_percent": top1, "latency_ms": macs / 1e8}
        return job.number, tuple(Measurement(name=name, value=value) for name, value in values.items())

    def busy_share(self):
        """Of the workers' time, until the last trial is begun: after that there is no work left to give."""
        work = sum(min(end, self.last_begin) - begin for begin, end in self._spans)
        return work / (self.capacity * self.last_begin)

    def close(self):
        pass

    def _tick(self):
        """The driver's own time passes for the workers, too."""
        now = time.perf_counter()
        self.clock += now - self._since
        self.driver_s += now - self._since
        self._since = now

    def _add(self, when, job, epoch):
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, job, epoch))


def simulate(workers, seconds, trials, sampler):
    """One study; what came of it."""
    executor = Simulated(workers, seconds)
    with tempfile.TemporaryDirectory() as folder:
        spec = make_spec("simulated", trials, sampler=sampler)
        run(f"sqlite:///{folder}/study.db", spec, None, make_executor=lambda _: executor)
    return {
        "workers": workers,
        "trials": trials,
        "sampler": sampler,
        "busy_percent": f"{100 * executor.busy_share():.2f}",
        "driver_percent": f"{100 * executor.driver_s / executor.clock:.1f}",
        "trials_per_s": f"{trials / executor.clock:.2f}",
        "driver_ms_a_trial": f"{1e3 * executor.driver_s / trials:.1f}",
        "most_workers": int(trials / executor.driver_s * seconds),
        "memory_mb": int(psutil.Process().memory_info().rss / 1e6),
    }


def grow(sampler, sizes, recorded=()):
    """Let the driver's proposer make a study to the largest of `sizes`; what an ask took at each, and the study.

    Args:
        sampler: that is asked.
        sizes: numbers of trials at which the last fifteen asks are looked at, ascending.
        recorded: trials that are there before.
    """
    spec = make_spec("asks", 2 * max(sizes), sampler=sampler)
    proposer, recorded, rng = Proposer(spec, recorded), list(recorded), random.Random(0)
    times, rows = [], []
    while len(recorded) < max(sizes):
        begin = time.perf_counter()
        trial = proposer.propose()
        times.append(time.perf_counter() - begin)
        ended = replace(trial, number=len(recorded), state="complete", readings=noisy_readings(trial.candidate, rng))
        recorded.append(replace(ended, noted=proposer.tell(ended)))
        if len(recorded) in sizes:
            rows.append({"sampler": sampler, "trials": len(recorded)} | spent(times[-15:], spec, recorded))
    return rows, recorded


def spent(times, spec, recorded):
    begin = time.perf_counter()
    Proposer(spec, recorded)
    return {
        "ask_ms": f"{1e3 * statistics.median(times):.1f}",
        "slowest_ms": f"{1e3 * max(times):.1f}",
        "open_s": f"{time.perf_counter() - begin:.2f}",
        "memory_mb": int(psutil.Process().memory_info().rss / 1e6),
    }


def noisy_readings(candidate, rng):
    """Accuracy and latency by MACs, each with an error, else all were on the front."""
    macs = count_macs(candidate.architecture, resolution=224)
    top1, latency_ms = 40 + 10 * (macs / 1e9) ** 0.5 + rng.gauss(0, 0.5), macs / 1e8 * rng.uniform(0.85, 1.15)
    return Measurement(name="top1_percent", value=top1), Measurement(name="latency_ms", value=latency_ms)


def time_asks(sizes, alone):
    """NSGA-II makes the whole study; TPE its own to `alone` trials, and larger ones it goes on with from NSGA-II's."""
    rows, recorded = grow("nsga2", sizes)
    yield from ({"grown_by": "nsga2"} | row for row in rows)
    small, large = [size for size in sizes if size <= alone], [size for size in sizes if size > alone]
    if small:
        yield from ({"grown_by": "tpe"} | row for row in grow("tpe", small)[0])
    for size in large:
        yield from ({"grown_by": "nsga2"} | row for row in grow("tpe", [size], recorded[: size - 15])[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="*", default=[10, 100, 500, 1000])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--sampler", default="nsga2")
    parser.add_argument("--trials-a-worker", type=int, default=6)
    parser.add_argument("--asks", type=int, nargs="*", help="sizes of studies; then only asks are timed")
    parser.add_argument("--alone", type=int, default=3000, help="trials to which TPE makes its own study")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rows = []
    if options.asks:
        for row in time_asks(sorted(options.asks), options.alone):
            rows.append(row)
            print(row, flush=True)
    else:
        for workers in options.workers:
            rows.append(simulate(workers, options.seconds, options.trials_a_worker * workers, options.sampler))
            print(rows[-1], flush=True)
    out = options.out or Path(__file__).with_name("asks.csv" if options.asks else "simulation.csv")
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
