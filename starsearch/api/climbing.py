"""A study's run at its fidelities, one after another: workplace, record, evaluator, driver."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.devices import front_meters, timed_quantities, wants_int8, wants_placement
from starsearch.api.study import agreement_with_lower
from starsearch.api.study_folder import StudyPlace, fidelity_folder, point_to_storage
from starsearch.api.workplaces import Workplace

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.latency.reference import Reference
    from starsearch.records import StudyRecord
    from starsearch.search import Below, StudyEnded
    from starsearch.search.events import Event
    from starsearch.study.runner_file import Runner
    from starsearch.study.spec import StudySpec

    Watch = Callable[[Event], None]
    View = Callable[[StudySpec, Path], AbstractContextManager[Watch]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LadderRun:
    """A run of a study at its fidelities, one after another.

    Attributes:
        specs: a study a fidelity, the cheapest first.
        place: of the whole.
        dataset: opened.
        runner: where evaluations run.
        command: that repeats the study.
        deadline: by the monotonic clock, after which no trial is begun; None for none.
        view: makes what watches the run at a fidelity.
        is_stored_elsewhere: whether the record lies elsewhere than in the study's folder.
    """

    specs: tuple[StudySpec, ...]
    place: StudyPlace
    dataset: DataSet
    runner: Runner
    command: str
    deadline: float | None
    view: View
    is_stored_elsewhere: bool

    def climb(self, say: Callable[[str], None]) -> StudyEnded:
        """Run every fidelity to its end; the first that does not come to it is the last. Returns how that one ended."""
        below: Below | None = None
        for spec, above in zip(self.specs, (*self.specs[1:], None), strict=True):
            ended, below = self.run_at(spec, below=below, above=above)
            for line in agreement_with_lower(self.place, spec.name):
                say(line)
            if ended.why not in ("complete", "space exhausted"):
                break
            if above is not None and below is not None and (short := _shortfall(above, below)):
                say(short)
        return ended

    def run_at(
        self, spec: StudySpec, *, below: Below | None, above: StudySpec | None = None
    ) -> tuple[StudyEnded, Below | None]:
        """How the run at one fidelity has ended, and who may come from it to the one above."""
        from starsearch.search import look_below, run_study

        assert self.place.folder is not None
        # A worker of a cluster has another working folder.
        folder = fidelity_folder(self.place.folder, spec, first=self.specs[0]).resolve()
        folder.mkdir(parents=True, exist_ok=True)  # before a cluster's nodes are asked whether they see it
        with closing(Workplace(self.runner, spec, folder)) as workplace:
            reference = _latency_scale(spec, self.place, workplace)
            record = self._open_record(spec, workplace, reference)
            try:
                meters = front_meters(spec, num_classes=len(self.dataset.classes), study=str(self.place.folder))
                if self.is_stored_elsewhere:
                    point_to_storage(self.place.folder, self.place.name, self.place.url)
                evaluator = _make_evaluator(spec, self.dataset, reference)
                with self.view(spec, self.place.folder) as watch:
                    ended = run_study(
                        spec,
                        record=record,
                        evaluator=evaluator,
                        make_executor=lambda _: workplace.make_executor(evaluator),
                        watch=watch,
                        folder=folder,
                        time_budget_s=self._time_left_s(),
                        meters=meters,
                        tries=workplace.tries,
                        below=below,
                    )
                return ended, None if above is None else look_below(above, below=spec, record=record, folder=folder)
            finally:
                record.close()

    def _time_left_s(self) -> float | None:
        return None if self.deadline is None else max(0.0, self.deadline - time.monotonic())

    def _open_record(self, spec: StudySpec, workplace: Workplace, reference: Reference | None) -> StudyRecord:
        from starsearch.records import LADDER, StudyRecord

        device = workplace.device() if reference else None
        signature = spec.describe() | {"data": data_in_words(self.dataset)} | ({"device": device} if device else {})
        attributes = {
            "command": self.command,
            "sampler": spec.sampler,
            "classes": list(self.dataset.classes),
            "preprocessing": _preprocessing(self.dataset),
        }
        if reference:
            attributes["reference"] = asdict(reference)
        record = StudyRecord.open(self.place.url, spec, signature=signature, attributes=attributes)
        names = [one.name for one in self.specs]
        # A later version of the file may have more fidelities: candidates are linked by what they are.
        is_ladder = len(names) > 1 and spec is self.specs[0] and spec.promotion is None
        if is_ladder and record.attribute(LADDER) != names:
            record.set_attribute(LADDER, names)
        return record


def _shortfall(above: StudySpec, below: Below) -> str | None:
    """Words for a fidelity to which fewer can come than shall; None where there are enough."""
    assert above.promotion is not None
    wanted, there = above.promotion.best + above.promotion.random, len(below.ranked)
    if there >= wanted:
        return None
    return (
        f"Only {there} of the {wanted} candidates that shall come to {above.fidelity.name} can: the others are "
        "infeasible, failed, or were stopped at a rung."
    )


def ignore(event: Event) -> None:
    """Nobody watches."""


def _latency_scale(spec: StudySpec, place: StudyPlace, workplace: Workplace) -> Reference | None:
    """The scale of the first fidelity's study where it has one, else the machine's, measured now.

    None where nothing is timed.
    """
    if not timed_quantities(spec) and not wants_int8(spec):
        return None
    from starsearch.latency.reference import Reference
    from starsearch.records import load_attributes

    known: dict[str, Any] | None = load_attributes(place.url, place.name).get("reference")
    if known is None:
        return workplace.calibrate()
    return Reference.from_dict(known)


def data_in_words(dataset: DataSet) -> str:
    """Name, counts and fingerprint of a data set, as a study's conditions have them."""
    return (
        f"{dataset.name}: {len(dataset.classes)} classes, {dataset.num_train:,} training and "
        f"{dataset.num_validation:,} validation images ({dataset.fingerprint})"
    )


def _preprocessing(dataset: DataSet) -> dict[str, Any]:
    from starsearch.data.dataset import INTERPOLATION

    return {
        "mean": list(dataset.mean),
        "std": list(dataset.std),
        "interpolation": INTERPOLATION,
        "orientation": dataset.orientation,
    }


def _make_evaluator(spec: StudySpec, dataset: DataSet, reference: Reference | None) -> Any:
    from starsearch.evaluators import ProxyEvaluator

    return ProxyEvaluator(
        data=dataset,
        fidelity=spec.fidelity,
        resolution=spec.space.resolution,
        reference=reference,
        timed=timed_quantities(spec),
        profiles=spec.profiles,
        int8=wants_int8(spec),
        coreml_placement=wants_placement(spec),
    )
