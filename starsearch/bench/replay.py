"""The real driver on the table's trainings, in simulated time."""

from __future__ import annotations

import os
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from starsearch.bench.judge import Judge
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
from starsearch.search.events import Event, TrialEnded
from starsearch.search.executor import LocalExecutor
from starsearch.study.recipe_file import load_recipe
from starsearch.study.spec import Halving, Rung, StudySpec
from starsearch.trial import Trial

BASELINE = "nsga2"  # whose hypervolume at the end the others are to reach
_ETA = 3
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
        rng = random.Random(f"{seed} {architecture_hash(architecture)}")  # noqa: S311 — noise, not secrets
        luck, last = rng.gauss(0.0, self.judge.noise), part.until or len(found.curve)
        for epoch in range(self.trained.get(candidate.key, 0), last):
            self.now += found.seconds / len(found.curve)
            seen = min(max(found.curve[epoch] + luck, 0.0), 100.0)
            yield Progress(fraction=(epoch + 1) / last, stage="replay", epoch=epoch + 1, values={_TOP1: seen})
        self.trained[candidate.key] = last
        return (
            Measurement(name=_TOP1, value=min(max(found.curve[last - 1] + luck, 0.0), 100.0), spread=self.judge.noise),
            Measurement(name=LATENCY, value=found.latency_ms),
            Measurement(name="macs", value=count_macs(architecture)),
            Measurement(name="num_params", value=count_params(architecture)),
        )


def replay(judge: Judge, fidelity: Fidelity, sampler: str, *, seed: int, trials: int) -> pd.DataFrame:
    """Run a study of `trials` candidates by a sampler ("tpe", "tpe+halving"); return a row for each trial that ended.

    Anchors are known to all: they come first, and cost neither evaluations nor compute. The columns: sampler, seed;
    evaluations, candidates so far; seconds, simulated, of all their trainings; hypervolume, of what is true of those
    that were trained to the end, as a share of the box from the table's worst values to its best top-1 at no latency.
    """
    from optuna import create_study
    from optuna.storages import InMemoryStorage

    name, _, halved = sampler.partition("+")
    epochs = fidelity.epochs or 1
    rungs = [Rung(epochs=epochs // _ETA**power) for power in (3, 2, 1) if epochs >= _ETA**power]
    spec = StudySpec(
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
    storage, evaluator = InMemoryStorage(), SimulatedEvaluator(judge)
    with quiet_optuna():
        create_study(storage=storage, study_name=spec.name, directions=[one.direction for one in _OBJECTIVES])
    ended: list[Trial] = []

    def watch(event: Event) -> None:
        if isinstance(event, TrialEnded) and event.trial.has_result:
            ended.append(event.trial)

    record = StudyRecord(storage, url="sqlite://", spec=spec)
    why = run_study(spec, record, LocalExecutor(evaluator), watch, clock=lambda: evaluator.now).why
    if why == "interrupted":  # which a study takes for its end
        raise KeyboardInterrupt
    rows = pd.DataFrame(_score(judge, ended), columns=["evaluations", "seconds", "hypervolume"])
    rows.insert(0, "sampler", sampler)
    rows.insert(1, "seed", seed)
    return rows


def _score(judge: Judge, ended: Iterable[Trial]) -> Iterator[tuple[int, float, float]]:
    truth = [judge.judge(one) for one in judge.networks]
    worst, best = (pick(one.curve[-1] for one in truth) for pick in (min, max))
    slowest = max(one.latency_ms for one in truth)
    losses, searched, seconds = np.empty((0, 2)), set[str](), 0.0
    for trial in ended:
        found = judge.judge(trial.candidate.architecture)
        if trial.state == "complete":
            loss = [(best - found.curve[-1]) / (best - worst), found.latency_ms / slowest]
            losses = np.vstack([losses, np.minimum(loss, 1.0)])
        if not trial.is_anchor:
            searched.add(trial.key)
            seconds += trial.seconds
        yield len(searched), seconds, hypervolume(losses, np.ones(2))


def replay_all(
    judge: Judge, fidelity: Fidelity, samplers: Sequence[str], *, seeds: int, trials: int, workers: int
) -> Iterator[pd.DataFrame]:
    """Yield the replay of each sampler by each seed, as they end; `workers` processes run at a time."""
    from joblib import Parallel, delayed

    jobs = [
        delayed(replay)(judge, fidelity, one, seed=seed, trials=trials) for seed in range(seeds) for one in samplers
    ]
    yield from Parallel(n_jobs=workers, return_as="generator_unordered")(jobs)


def summarise(replays: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each sampler: what it came to, and what it took to reach the baseline's median end.

    The columns: sampler; hypervolume and its standard deviation between seeds, at the end; evaluations and seconds
    until half of the seeds have reached it, infinite where fewer do; reached, the share that does at the end. Without
    the baseline among the samplers nothing is to be reached, and these are NaN.
    """
    by_replay = ["sampler", "seed"]
    ends = replays.groupby(by_replay)["hypervolume"].last()
    by_sampler = ends.groupby(level="sampler")
    found = pd.DataFrame({"hypervolume": by_sampler.mean(), "deviation": by_sampler.std()})
    if BASELINE not in found.index:
        return found.assign(evaluations=np.nan, seconds=np.nan, reached=np.nan).reset_index()
    is_enough = replays["hypervolume"] >= ends.loc[BASELINE].median()
    costs = replays[is_enough].groupby(by_replay)[["evaluations", "seconds"]].first()
    costs = costs.reindex(ends.index).fillna(np.inf)
    found = found.join(costs.groupby(level="sampler").quantile(0.5, interpolation="lower"))
    found["reached"] = np.isfinite(costs["evaluations"]).groupby(level="sampler").mean()
    return found.sort_values("evaluations").reset_index()
