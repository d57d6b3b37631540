"""`run_study_file`: from a YAML file to a study with a front."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.dashboard import DashboardPage
from starsearch.api.devices import (
    check_machine,
    front_meters,
    timed_quantities,
    wants_int8,
    wants_placement,
    warn_of_other_resolutions,
)
from starsearch.api.reading import ladder_lines, write_report_at
from starsearch.api.study_folder import StudyPlace, database_url, fidelity_folder, make_folder, point_to_storage
from starsearch.api.workplaces import Workplace, open_workplace
from starsearch.errors import DataError, StudyError

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.latency import Reference
    from starsearch.records import StudyRecord
    from starsearch.search import Below, StudyEnded
    from starsearch.search.events import Event
    from starsearch.study.runner_file import Runner
    from starsearch.study.spec import StudySpec

    Watch = Callable[[Event], None]
    View = Callable[[StudySpec, Path], AbstractContextManager[Watch]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a run has left behind.

    Attributes:
        folder: of the study.
        ended: why the driver stopped, and how far it came.
        files: tables, picture and page that were written.
    """

    folder: Path
    ended: StudyEnded
    files: tuple[Path, ...]


def run_study_file(
    file: str,
    *,
    out: Path = Path("studies"),
    data: str | None = None,
    runner: str | None = None,
    trials: int | None = None,
    time_budget_s: float | None = None,
    storage: str | None = None,
    name: str | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    view: View | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> RunOutcome:
    """Run the study that `file` describes until it has its trials, or go on with it; fidelity after fidelity.

    Args:
        file: a space or study file, or a shipped space's name.
        out: folder in which the study's folder is made.
        data: what `open_data` takes, in place of the file's.
        runner: a runner file; None for this process, or Ray where RAY_ADDRESS is set.
        trials: finished searched trials the study shall have at its first fidelity, in place of the file's.
        time_budget_s: no trial is started after so many seconds.
        storage: Optuna storage URL; None for study.db in the study's folder.
        name: of the study, in place of the file's stem.
        seed: in place of the file's.
        settings: "KEY=VALUE", changes of single values in the file.
        view: makes what watches the run at a fidelity from the study and its folder.
        say: is told after each later fidelity how far the one before it can be trusted.

    Raises:
        SpecError, DataError, StudyError: the user's mistake, in words; what was recorded is kept.
    """
    from starsearch.data import open_data
    from starsearch.study.runner_file import load_runner
    from starsearch.study.study_file import load_ladder

    where = load_runner(runner)
    specs = load_ladder(file, name=name, data=data, trials=trials, seed=seed, settings=settings)
    for spec in specs:
        check_machine(spec)
    warn_of_other_resolutions(specs[0])
    dataset = open_data(specs[0].data)
    for spec in specs:
        _check_batch(spec, dataset)
    # By its name from here on: a record or a report holds no path of the machine it was made on.
    specs = tuple(replace(spec, data=dataset.name) for spec in specs)
    folder = make_folder(out, specs[0].name)
    place = StudyPlace(name=specs[0].name, url=storage or database_url(folder), folder=folder)
    run = _LadderRun(
        specs=specs,
        place=place,
        dataset=dataset,
        runner=where,
        command=_command(file, dataset, settings),
        deadline=None if time_budget_s is None else time.monotonic() + time_budget_s,
        view=view or (lambda _spec, _folder: nullcontext(_ignore)),
        is_stored_elsewhere=storage is not None,
    )
    ended = run.climb(say)
    return RunOutcome(folder=folder, ended=ended, files=tuple(write_report_at(place)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _LadderRun:
    """A run of a study at its fidelities, one after another."""

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
            ended, below = self._run(spec, below=below, above=above)
            if spec.promotion is not None:
                for line in ladder_lines(self.place, upper=spec.name):
                    say(line)
            if ended.why not in ("complete", "space exhausted"):
                break
        return ended

    def _run(self, spec: StudySpec, *, below: Below | None, above: StudySpec | None) -> tuple[StudyEnded, Below | None]:
        """How the run at one fidelity has ended, and who may come from it to the one above."""
        from starsearch.search import look_below, run_study

        assert self.place.folder is not None
        # A worker of a cluster has another working folder.
        folder = fidelity_folder(self.place.folder, spec, first=self.specs[0]).resolve()
        with closing(open_workplace(self.runner, spec, folder)) as workplace:
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
                        watch=_both(watch, DashboardPage(spec, record)),
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
        from starsearch.study.signature import sign_study

        device = workplace.device() if reference else None
        signature = sign_study(spec, data=_data_in_words(self.dataset), device=device)
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
        # A later version of the file may have more fidelities; nothing of the trials rests on it.
        if spec is self.specs[0] and len(names) > 1 and record.attribute(LADDER) != names:
            record.set_attribute(LADDER, names)
        return record


def _both(one: Watch, other: Watch) -> Watch:
    """Whoever watches is told after one another."""

    def watch(event: Event) -> None:
        one(event)
        other(event)

    return watch


def _ignore(event: Event) -> None:
    """Nobody watches."""


def _check_batch(spec: StudySpec, dataset: DataSet) -> None:
    """A batch that the data can never fill would fail every trial."""
    rungs = spec.halving.rungs if spec.halving else ()
    samples = [spec.fidelity.samples, *(rung.samples for rung in rungs)]
    images, batch = min(number or dataset.num_train for number in samples), spec.recipe.batch_size
    images = min(images, dataset.num_train)
    if batch > images:
        raise DataError(
            f"A training step takes batch_size {batch} images, but the fidelity {spec.fidelity.name!r} has {images} "
            f"of {dataset.name!r}. Lower batch_size in the study's recipe, or give it more samples."
        )


def _latency_scale(spec: StudySpec, place: StudyPlace, workplace: Workplace) -> Reference | None:
    """The scale of the first fidelity's study where it has one, else the machine's, measured now.

    None where nothing is timed.
    """
    if not timed_quantities(spec) and not wants_int8(spec):
        return None
    from starsearch.latency import Reference
    from starsearch.records import load_attributes

    known: dict[str, Any] | None = load_attributes(place.url, place.name).get("reference")
    if known is None:
        return workplace.calibrate()
    return Reference.from_dict(known)


def _command(file: str, dataset: DataSet, settings: Sequence[str]) -> str:
    """How the study was begun, without a path of this machine."""
    named = Path(file).name if Path(file).is_absolute() else file
    data = "" if dataset.name == "digits" else f" --data {dataset.name}"
    return f"starsearch run {named}{data}" + "".join(f" --set {shlex.quote(setting)}" for setting in settings)


def _data_in_words(dataset: DataSet) -> str:
    return (
        f"{dataset.name}: {len(dataset.classes)} classes, {dataset.num_train:,} training and "
        f"{dataset.num_validation:,} validation images ({dataset.fingerprint})"
    )


def _preprocessing(dataset: DataSet) -> dict[str, Any]:
    return {"mean": list(dataset.mean), "std": list(dataset.std), "interpolation": dataset.interpolation}


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


def parse_duration(text: str) -> float:
    """Seconds of "90s", "30m", "2h", "1h30m" or a plain number of seconds.

    Raises:
        StudyError: the text is none of these.
    """
    import re

    number = r"(\d+(?:\.\d+)?)"
    written = text.strip() + ("s" if re.fullmatch(number, text.strip()) else "")
    match = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s)?", written)
    if not written or match is None:
        raise StudyError(f"A time budget is written as 90s, 30m, 2h or 1h30m; got {text!r}.")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    total = 3600 * hours + 60 * minutes + seconds
    if total <= 0:
        raise StudyError(f"A time budget is longer than nothing; got {text!r}.")
    return total
