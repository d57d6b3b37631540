"""The real driver on the table's trainings, in simulated time."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starsearch.bench.judge import Judge, drawn
from starsearch.candidate import Candidate
from starsearch.evaluators.evaluator import WHOLE, Evaluation, TrainingPart
from starsearch.families.family import count_macs, count_params
from starsearch.families.text import architecture_hash
from starsearch.measurement import Measurement
from starsearch.objective import LATENCY, Objective
from starsearch.pareto import hypervolume
from starsearch.progress import Progress
from starsearch.recipe import Fidelity
from starsearch.records.record import StudyRecord
from starsearch.records.storage import quiet_optuna
from starsearch.search.driver import run_study
from starsearch.search.events import Event, TrialEnded, TrialStarted
from starsearch.search.executor import LocalExecutor
from starsearch.study.recipe_file import load_recipe
from starsearch.study.spec import Halving, Rung, StudySpec
from starsearch.trial import Trial

BASELINE = "nsga2"  # whose hypervolume at the end the others are to reach, with the same seed
_ETA = 3
_RESAMPLES = 2_000
_SEEDS_APART = 100_000  # a sampler's seed is the study's plus the number of its trials
_TOP1 = "top1_percent"
_OBJECTIVES = (
    Objective(name=_TOP1, direction="maximize"),
    Objective(name=LATENCY, direction="minimize", device="StarBench's"),
)


@dataclass(slots=True)
class SimulatedEvaluator:
    """Returns what the table says of a candidate, as a training of this seed would have seen it; moves the clock."""

    judge: Judge
    now: float = 0.0  # the simulated time in seconds
    trained: dict[str, int] = field(default_factory=dict)  # epochs by candidate

    def __call__(
        self,
        candidate: Candidate,
        *,
        seed: int,
        weights: Path | None,  # noqa: ARG002 — there are none
        part: TrainingPart = WHOLE,
    ) -> Evaluation:
        """Yield each epoch; return top-1, latency, MACs and parameters."""
        architecture = candidate.architecture
        found = self.judge.judge(architecture)
        # The noise of one training: the same whenever this replay asks, as a seed's is.
        luck = drawn(self.judge.luck, f"{seed} {architecture_hash(architecture)}")
        curve, last = np.clip(found.curve + luck, 0.0, 100.0).tolist(), part.until or len(found.curve)
        for epoch in range(self.trained.get(candidate.key, 0), last):
            self.now += found.seconds / len(found.curve)
            values = {_TOP1: curve[epoch]}
            yield Progress(fraction=(epoch + 1) / last, stage="replay", epoch=epoch + 1, values=values)
        self.trained[candidate.key] = last
        return (
            Measurement(name=_TOP1, value=curve[last - 1], spread=self.judge.noise),
            Measurement(name=LATENCY, value=found.latency_ms),
            Measurement(name="macs", value=count_macs(architecture)),
            Measurement(name="num_params", value=count_params(architecture)),
        )


def replay_spec(judge: Judge, fidelity: Fidelity, sampler: str, *, seed: int, trials: int) -> StudySpec:
    """Return the study that a sampler ("tpe", "tpe+halving") is replayed in."""
    name, _, halved = sampler.partition("+")
    epochs = fidelity.epochs or 1
    rungs = [Rung(epochs=epochs // _ETA**power) for power in (3, 2, 1) if epochs >= _ETA**power]
    return StudySpec(
        name=f"{sampler}-{seed}-{os.getpid()}",
        space=judge.space,
        data="cifar10",
        recipe=load_recipe(fidelity.recipe),
        fidelity=fidelity,
        objectives=_OBJECTIVES,
        sampler=name,
        trials=trials,
        seed=_SEEDS_APART * seed,
        halving=Halving(eta=_ETA, rungs=tuple(rungs)) if halved and rungs else None,
    )


def replay(
    judge: Judge, fidelity: Fidelity, sampler: str, *, seed: int, trials: int, goal: float = math.inf
) -> pd.DataFrame:
    """Run a study of `trials` candidates by a sampler ("tpe", "tpe+halving"); return a row for each trial that ended.

    Anchors are known to all: they come first, and cost neither evaluations nor compute. The columns: sampler, seed;
    evaluations, candidates so far; seconds, simulated, of all their trainings; hypervolume, of what is true of those
    that were trained to the end, as a share of the box from the table's worst values to its best top-1 at no latency;
    ask_s, the processor's seconds between the trial before and this one.

    Args:
        goal: the hypervolume at which it stops.
    """
    from optuna import create_study
    from optuna.storages import InMemoryStorage

    spec = replay_spec(judge, fidelity, sampler, seed=seed, trials=trials)
    storage, evaluator = InMemoryStorage(), SimulatedEvaluator(judge)
    with quiet_optuna():
        create_study(storage=storage, study_name=spec.name, directions=[one.direction for one in _OBJECTIVES])
    score, rows, ended, asked = _Score(judge), list[tuple[float, ...]](), time.process_time(), 0.0

    def watch(event: Event) -> None:
        nonlocal ended, asked
        if isinstance(event, TrialStarted):
            asked = time.process_time() - ended
        elif isinstance(event, TrialEnded):
            if event.trial.has_result:
                rows.append((*score.add(event.trial), asked))
            ended = time.process_time()

    def clock() -> float:
        """Return the simulated time, beyond every deadline once the goal is reached."""
        return math.inf if score.hypervolume >= goal else evaluator.now

    record = StudyRecord(storage, url="sqlite://", spec=spec)
    why = run_study(spec, record, LocalExecutor(evaluator), watch, clock=clock).why
    if why == "interrupted":  # which a study takes for its end
        raise KeyboardInterrupt
    found = pd.DataFrame(rows, columns=["evaluations", "seconds", "hypervolume", "ask_s"])
    return found.assign(sampler=sampler, seed=seed)[["sampler", "seed", *found.columns]]


class _Score:
    """Counts what a replay's trials have taken, and the hypervolume that they have."""

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        truth = [judge.judge(one) for one in judge.networks]
        self._worst, self._best = (pick(one.curve[-1] for one in truth) for pick in (min, max))
        self._slowest = max(one.latency_ms for one in truth)
        self._losses, self._searched, self._seconds = np.empty((0, 2)), set[str](), 0.0
        self.hypervolume = 0.0

    def add(self, trial: Trial) -> tuple[int, float, float]:
        """Return evaluations, seconds and hypervolume so far."""
        if trial.state == "complete":
            found = self._judge.judge(trial.candidate.architecture)
            loss = [(self._best - found.curve[-1]) / (self._best - self._worst), found.latency_ms / self._slowest]
            self._losses = np.vstack([self._losses, np.minimum(loss, 1.0)])
            self.hypervolume = hypervolume(self._losses, np.ones(2))
        if not trial.is_anchor:
            self._searched.add(trial.key)
            self._seconds += trial.seconds
        return len(self._searched), self._seconds, self.hypervolume


def outcome(rows: pd.DataFrame, *, trials: int, goal: float | None = None) -> dict[str, Any]:
    """Return what a replay took to the goal, by default where it ended: a row of what `replay_all` yields."""
    goal = rows["hypervolume"].iloc[-1] if goal is None else goal
    reached = rows[rows["hypervolume"] >= goal].head(1)
    asks = rows["ask_s"][rows["evaluations"] > 0]
    return {
        "sampler": rows["sampler"].iloc[0],
        "seed": int(rows["seed"].iloc[0]),
        "trials": trials,
        "goal": goal,
        "evaluations": reached["evaluations"].iloc[0] if len(reached) else math.inf,
        "seconds": reached["seconds"].iloc[0] if len(reached) else math.inf,
        "hypervolume": rows["hypervolume"].iloc[-1],
        "ask_s": asks.mean(),
        "slowest_ask_s": asks.max(),
    }


def replay_all(
    judge: Judge,
    fidelity: Fidelity,
    samplers: Mapping[str, int],
    *,
    seeds: int,
    trials: int,
    workers: int,
    known: Sequence[Mapping[str, Any]] = (),
) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each sampler's replay by each seed, as they end; `workers` processes run at a time.

    First the baseline runs with each seed. Its hypervolume after `trials` is the goal of the others, which stop there.

    Args:
        samplers: after how many candidates each gives up.
        known: outcomes from before, which are not repeated.
    """
    from joblib import Parallel, delayed

    def run(sampler: str, seed: int, trials: int, goal: float | None) -> dict[str, Any]:
        rows = replay(judge, fidelity, sampler, seed=seed, trials=trials, goal=math.inf if goal is None else goal)
        return outcome(rows, trials=trials, goal=goal)

    there = {(one["sampler"], one["seed"]) for one in known}
    goals = {one["seed"]: one["goal"] for one in known if one["sampler"] == BASELINE}
    parallel = Parallel(n_jobs=workers, return_as="generator_unordered")
    for one in parallel(delayed(run)(BASELINE, seed, trials, None) for seed in range(seeds) if seed not in goals):
        goals[one["seed"]] = one["goal"]
        yield one
    jobs = [
        delayed(run)(name, seed, most, goals[seed])
        for seed in range(seeds)
        for name, most in samplers.items()
        if name != BASELINE and (name, seed) not in there
    ]
    yield from parallel(jobs)


def summarise(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each sampler: what half of its replays take to the goal of their seed.

    The columns: sampler; evaluations and hours, each with `_low` and `_high`, a 90 % interval of the median by
    resampled seeds, infinite where too few come so far; reached, the share that does; ask_s and slowest_ask_s.
    """
    rng, rows = np.random.default_rng(0), []
    for sampler, group in outcomes.groupby("sampler"):
        row = {"sampler": sampler, "replays": len(group), "reached": np.isfinite(group["evaluations"]).mean()}
        drawn_rows = rng.integers(len(group), size=(_RESAMPLES, len(group)))
        for name, values in (("evaluations", group["evaluations"]), ("hours", group["seconds"] / 3600)):
            found = values.to_numpy()
            medians = np.quantile(found[drawn_rows], 0.5, axis=1, method="lower")
            row[name] = np.quantile(found, 0.5, method="lower")
            row[f"{name}_low"], row[f"{name}_high"] = np.quantile(medians, [0.05, 0.95], method="lower")
        rows.append(row | {"ask_s": group["ask_s"].mean(), "slowest_ask_s": group["slowest_ask_s"].max()})
    return pd.DataFrame(rows).sort_values(["evaluations", "hours"], ignore_index=True)
