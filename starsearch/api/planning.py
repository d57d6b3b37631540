"""`plan_study`: from a pilot of a few candidates, the cheapest proxy to be trusted, and what the study will cost."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.api.climbing import LadderRun, ignore
from starsearch.api.pilot import OBJECTIVES, Grid, draw_pilot, own_proxy, pilot_steps, runner_for_pilot, work_of
from starsearch.api.study_folder import StudyPlace, database_url, make_folder
from starsearch.errors import SpecError

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.api.climbing import View
    from starsearch.data import DataSet
    from starsearch.report.planning import ProxyOption, StepCost
    from starsearch.study.runner_file import Runner
    from starsearch.study.spec import StudySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a pilot has come to.

    Attributes:
        folder: with the pilot's record and plan.csv; the same call goes on in it.
        top: name of the fidelity that counts as the truth.
        pilot: candidates, anchors included.
        options: the proxies that were tried, the cheapest first.
        chosen: the cheapest that agrees well enough; None where none does.
        tau: that was asked for.
        costs: of the study with the chosen proxy, by fidelity; with its own where none was chosen.
        workers: evaluations at a time; None where it is not known.
        is_complete: whether the pilot came to its end.
    """

    folder: Path
    top: str
    pilot: int
    options: tuple[ProxyOption, ...]
    chosen: ProxyOption | None
    tau: float
    costs: tuple[StepCost, ...]
    workers: int | None
    is_complete: bool

    @property
    def hours(self) -> float:
        """Of one worker, the whole study."""
        return sum(cost.hours for cost in self.costs)

    @property
    def gpu_hours(self) -> float:
        """The whole study; 0 on processors."""
        return sum(cost.hours * cost.gpus for cost in self.costs)

    @property
    def days(self) -> float | None:
        """By the clock, with all workers; a fidelity with fewer candidates than workers leaves some idle."""
        if self.workers is None:
            return None
        rounds = [math.ceil(cost.trainings / self.workers) * cost.seconds for cost in self.costs]
        return sum(rounds) / 86_400


def plan_study(
    file: str,
    *,
    data: str | None = None,
    pilot: int = 12,
    tau: float = 0.7,
    top: str | None = None,
    grid: Grid | None = None,
    runner: str | None = None,
    workers: int | None = None,
    out: Path = Path("studies"),
    name: str | None = None,
    seed: int | None = None,
    time_budget_s: float | None = None,
    settings: Sequence[str] = (),
    view: View | None = None,
) -> Plan:
    """Train a pilot at the top fidelity and at cheaper ones, and say which of these ranks as it does; or go on with it.

    Args:
        file: a study file (or a space).
        data: in place of the file's.
        pilot: candidates drawn from the space at random, beside the anchors.
        tau: Kendall's τ that a proxy shall have with the top fidelity.
        top: name of the study's fidelity that counts as the truth; None for its last.
        grid: proxies to try.
        runner: where evaluations run, as in `run_study_file`.
        workers: evaluations at a time that the cost is reckoned for; None for the runner's.
        out: folder in which the pilot's folder NAME-plan is made.
        name: of the study.
        seed: in place of the file's.
        time_budget_s: no training is begun after so many seconds.
        settings: "KEY=VALUE", changes of single values in the file.
        view: makes what watches.

    Raises:
        SpecError, DataError, StudyError: the user's mistake, in words; what was recorded is kept.
    """
    from starsearch.data import open_data
    from starsearch.data.names import warn_of_left_out
    from starsearch.study.runner_file import load_runner
    from starsearch.study.settings import runner_settings
    from starsearch.study.study_file import load_specs

    of_study, of_runner = runner_settings(settings)
    where = load_runner(runner, of_runner)
    specs = load_specs(file, name=name, data=data, seed=seed, settings=of_study)
    dataset = open_data(specs[0].data)
    warn_of_left_out(dataset)
    steps = pilot_steps(specs, _find_top(specs, top), grid or Grid(), dataset, pilot)
    folder = make_folder(out, f"{specs[0].name}-plan")
    place = StudyPlace(name=steps[0].name, url=database_url(folder), folder=folder)
    run = LadderRun(
        specs=steps,
        place=place,
        dataset=dataset,
        runner=runner_for_pilot(where, specs[0], steps),
        command=f"starsearch plan {Path(file).name}",
        deadline=None if time_budget_s is None else time.monotonic() + time_budget_s,
        view=view or (lambda _spec, _folder: nullcontext(ignore)),
        is_stored_elsewhere=False,
    )
    is_complete = True
    for step in steps:
        ended, _ = run.run_at(step, below=draw_pilot(step, pilot))
        is_complete &= ended.why == "complete"
        if ended.why == "interrupted":
            break
    known_workers = where.workers if workers is None else workers
    return _conclude(specs, steps, place, dataset, tau=tau, workers=known_workers, runner=where, complete=is_complete)


def _find_top(specs: Sequence[StudySpec], name: str | None) -> StudySpec:
    if name is None:
        return specs[-1]
    found = next((spec for spec in specs if spec.fidelity.name == name), None)
    if found is None:
        names = ", ".join(spec.fidelity.name for spec in specs)
        raise SpecError(f"The study has no fidelity {name!r}; it has {names}. Name one with --top.")
    return found


def _conclude(
    specs: Sequence[StudySpec],
    steps: Sequence[StudySpec],
    place: StudyPlace,
    dataset: DataSet,
    *,
    tau: float,
    workers: int | None,
    runner: Runner,
    complete: bool,
) -> Plan:
    from starsearch.report.planning import choose_proxy

    assert place.folder is not None
    trials = {step.name: _complete(place, step.name) for step in steps}
    truth = trials[steps[0].name]
    own = own_proxy(specs[0], dataset)
    found = [_option(step, trials[step.name], truth, is_own=step.fidelity == own) for step in steps[1:]]
    options = [one for one in found if one is not None]
    options.sort(key=lambda one: one.seconds)
    chosen = choose_proxy(options, tau)
    plan = Plan(
        folder=place.folder,
        top=steps[0].fidelity.name,
        pilot=len(truth),
        options=tuple(options),
        chosen=chosen,
        tau=tau,
        costs=_costs(specs, steps, trials, dataset, chosen, runner),
        workers=workers,
        is_complete=complete,
    )
    _write(plan)
    return plan


def _complete(place: StudyPlace, name: str) -> pd.DataFrame:
    from starsearch.records import load_trials, study_names

    if name not in study_names(place.url):
        import pandas as pd

        return pd.DataFrame(columns=["number", "state", "architecture", "recipe", "seconds"])
    trials = load_trials(place.url, name, folder=place.folder)
    return trials[trials["state"] == "COMPLETE"]


def _option(step: StudySpec, trials: pd.DataFrame, truth: pd.DataFrame, *, is_own: bool) -> ProxyOption | None:
    from starsearch.report.agreement import compare_fidelities
    from starsearch.report.planning import ProxyOption

    if trials.empty or truth.empty:
        return None
    found = compare_fidelities(trials, truth, OBJECTIVES)
    if found is None:
        return None
    seconds = float(trials["seconds"].mean())
    return ProxyOption(fidelity=step.fidelity, seconds=seconds, agreement=found, is_own=is_own)


def _costs(
    specs: Sequence[StudySpec],
    steps: Sequence[StudySpec],
    trials: dict[str, pd.DataFrame],
    dataset: DataSet,
    chosen: ProxyOption | None,
    runner: Runner,
) -> tuple[StepCost, ...]:
    """Of each fidelity of the study, measured where the pilot had it."""
    from starsearch.report.planning import StepCost, predict_seconds
    from starsearch.study.runner_file import RayRunner

    measured = [(step, float(trials[step.name]["seconds"].mean())) for step in steps if len(trials[step.name])]
    if not measured:
        return ()
    work = [work_of(step.fidelity, step, dataset) for step, _ in measured]
    seconds = {replace(step.fidelity, name=""): taken for step, taken in measured}
    costs = []
    for spec in specs:
        fidelity = chosen.fidelity if chosen is not None and spec is specs[0] else spec.fidelity
        taken = seconds.get(replace(fidelity, name=""))
        predicted = predict_seconds(work, [one for _, one in measured], work_of(fidelity, spec, dataset))
        costs.append(
            StepCost(
                name=spec.fidelity.name,
                candidates=spec.trials + spec.num_anchor_trials,
                trainings=spec.trials * _share_trained(spec) + spec.num_anchor_trials,
                seconds=predicted if taken is None else taken,
                is_measured=taken is not None,
                gpus=runner.resources_of(spec.fidelity.name).gpu if isinstance(runner, RayRunner) else 0.0,
            )
        )
    return tuple(costs)


def _share_trained(spec: StudySpec) -> float:
    """Of a whole training, what a searched candidate has of it on average: with halving, one in η leaves each rung."""
    if spec.halving is None:
        return 1.0
    reached, share, before = 0.0, 1.0, 0
    for rung in spec.halving.rungs:
        reached += share * (rung.epochs - before)
        share, before = share / spec.halving.eta, rung.epochs
    return (reached + share * (spec.num_epochs - before)) / spec.num_epochs


def _write(plan: Plan) -> None:
    import pandas as pd

    rows = []
    for one in plan.options:
        found = one.agreement
        rows.append(
            {
                "resolution": one.fidelity.resolution,
                "epochs": one.fidelity.epochs,
                "samples": one.fidelity.samples,
                "seconds": round(one.seconds, 2),
                "candidates": found.candidates,
                **{f"tau_{name}": round(getattr(found, name).value, 4) for name in _TAUS},
                "tau_overall_low": round(found.overall.low, 4),
                "tau_overall_high": round(found.overall.high, 4),
                "better_than_params": round(found.better_than_params, 3),
                "chosen": one is plan.chosen,
                "own": one.is_own,
            }
        )
    if rows:
        pd.DataFrame(rows).to_csv(plan.folder / "plan.csv", index=False)


_TAUS = ("overall", "in_bands", "best_tenth", "num_params")
