"""The real driver and a real study with 10 to 1,000 simulated workers: when does the driver keep them waiting?

    python studies/benchmarks/simulation.py [--workers 10 100 500 1000] [--seconds 60]

Trials only take simulated time: 60 s each (± 20 %), an epoch told every 20 s. The driver's own time is real, and is
added to the simulated clock: while it asks, writes or reports, workers that have ended wait. The record is a real
SQLite file, the space spaces/starnet.yaml, the sampler NSGA-II (as for any study beyond a thousand trials), and each
study has 6 trials a worker. Reported: the workers' busy share until the last trial is begun, the driver's share,
trials a second of simulated time, and how many workers it could keep busy at most (trials a second of its own time ×
a trial's length).

    python studies/benchmarks/simulation.py --asks 100 1000 3000 10000 [--alone 3000] [--out asks.csv]

The time of one ask in a study of so many trials, of opening it, and the process's memory. An ask is until a candidate
is new and keeps the space's constraints, so it depends on who made the study: each sampler makes its own, but TPE
beyond --alone trials, which would take hours, goes on with NSGA-II's.
"""

from __future__ import annotations

import heapq
import random
import time
from contextlib import nullcontext
from dataclasses import replace
from itertools import count
from statistics import median

import psutil
from harness import collected, in_folder, read_options, seconds
from small_study import epochs, judge, make_spec, run

from starsearch.search.proposer import Proposer


class Simulated:
    """Workers whose clock goes on by itself only where the driver waits for them."""

    def __init__(self, workers, seconds):
        self.capacity, self._seconds = workers, seconds
        self.clock = self.driver_s = self.last_begin = 0.0
        self._spans, self._queue = [], []  # (begin, end) of each job; (when, order, number, what happens)
        self._order, self._rng = count(), random.Random(0)
        self._since = time.perf_counter()

    def submit(self, job):
        self._tick()
        self.last_begin, length = self.clock, self._seconds * self._rng.uniform(0.8, 1.2)
        self._spans.append((self.clock, self.clock + length))
        readings = judge(job.candidate)
        for news in (*epochs(readings), readings):
            fraction = 1.0 if news is readings else news.fraction
            heapq.heappush(self._queue, (self.clock + length * fraction, next(self._order), job.number, news))
        self._since = time.perf_counter()  # what the simulation itself takes is nobody's

    def next(self):
        self._tick()
        when, _, number, news = heapq.heappop(self._queue)
        self.clock = max(self.clock, when)
        return number, news

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


def simulate(workers, length_s, trials, sampler):
    """One study; what came of it."""
    executor, spec = Simulated(workers, length_s), make_spec("simulated", trials, sampler=sampler)
    in_folder(lambda folder: run(f"sqlite:///{folder}/study.db", spec, None, lambda _: nullcontext(executor)))
    return {
        "workers": workers,
        "trials": trials,
        "sampler": sampler,
        "busy_percent": 100 * executor.busy_share(),
        "driver_percent": 100 * executor.driver_s / executor.clock,
        "trials_per_s": trials / executor.clock,
        "driver_ms_a_trial": 1e3 * executor.driver_s / trials,
        "most_workers": int(trials / executor.driver_s * length_s),
        "memory_mb": memory_mb(),
    }


def memory_mb():
    return int(psutil.Process().memory_info().rss / 1e6)


def grow(sampler, sizes, recorded=()):
    """Let the driver's proposer make a study to each of the `sizes`; yield what its last fifteen asks took."""
    spec = make_spec("asks", 2 * max(sizes), sampler=sampler)
    proposer, recorded, times = Proposer(spec, recorded), list(recorded), []
    while len(recorded) < max(sizes):
        began = time.perf_counter()
        trial = proposer.propose()
        times.append(1e3 * (time.perf_counter() - began))
        ended = replace(trial, number=len(recorded), state="complete", readings=judge(trial.candidate))
        recorded.append(replace(ended, noted=proposer.tell(ended)))
        if len(recorded) in sizes:
            row = {"sampler": sampler, "trials": len(recorded), "ask_ms": median(times[-15:])}
            row |= {"slowest_ms": max(times[-15:]), "open_s": seconds(Proposer, spec, recorded)}
            yield row | {"memory_mb": memory_mb()}, recorded


def time_asks(sizes, alone):
    """NSGA-II makes the whole study; TPE its own to `alone` trials, and larger ones it continues from NSGA-II's."""
    recorded = []
    for row, recorded in grow("nsga2", sizes):  # noqa: B007
        yield {"grown_by": "nsga2"} | row
    if small := [size for size in sizes if size <= alone]:
        yield from ({"grown_by": "tpe"} | row for row, _ in grow("tpe", small))
    for size in (size for size in sizes if size > alone):
        yield from ({"grown_by": "nsga2"} | row for row, _ in grow("tpe", [size], recorded[: size - 15]))


if __name__ == "__main__":
    flags = {"workers": [10, 100, 500, 1000], "sampler": "nsga2", "trials_a_worker": 6, "asks": [], "alone": 3000}
    options = read_options(__doc__, seconds=60.0, **flags)
    if options.asks:
        collected(time_asks(sorted(options.asks), options.alone), options.out)
    else:
        rows = (simulate(n, options.seconds, options.trials_a_worker * n, options.sampler) for n in options.workers)
        collected(rows, options.out)
