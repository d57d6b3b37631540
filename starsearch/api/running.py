"""`run_study_file`: from a YAML file to a study with a front."""

from __future__ import annotations

from collections.abc import Callable
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
from starsearch.api.reading import write_report_at
from starsearch.api.study_folder import StudyPlace, database_url, make_folder, point_to_storage
from starsearch.api.workplaces import Workplace, open_workplace
from starsearch.errors import DataError, StudyError

if TYPE_CHECKING:
    from starsearch.data import DataSet
    from starsearch.latency import Reference
    from starsearch.search import StudyEnded
    from starsearch.search.events import Event
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
    view: View | None = None,
) -> RunOutcome:
    """Run the study that `file` describes until it has its trials, or go on with it.

    Args:
        file: a space or study file, or a shipped space's name.
        out: folder in which the study's folder is made.
        data: what `open_data` takes, in place of the file's.
        runner: a runner file; None for this process, or Ray where RAY_ADDRESS is set.
        trials: finished searched trials the study shall have, in place of the file's.
        time_budget_s: no trial is started after so many seconds.
        storage: Optuna storage URL; None for study.db in the study's folder.
        name: of the study, in place of the file's stem.
        seed: in place of the file's.
        view: makes what watches the run from the study and its folder.

    Raises:
        SpecError, DataError, StudyError: the user's mistake, in words; what was recorded is kept.
    """
    from starsearch.data import open_data
    from starsearch.search import run_study
    from starsearch.study.runner_file import load_runner
    from starsearch.study.study_file import load_study

    where = load_runner(runner)
    spec = load_study(file, name=name, data=data, trials=trials, seed=seed)
    check_machine(spec)
    warn_of_other_resolutions(spec)
    dataset = open_data(spec.data)
    _check_batch(spec, dataset)
    # By its name from here on: a record or a report holds no path of the machine it was made on.
    spec = replace(spec, data=dataset.name)
    folder = make_folder(out, spec.name)
    url = storage or database_url(folder)
    with closing(open_workplace(where, spec, folder.resolve())) as workplace:
        reference = _latency_scale(spec, url, workplace)
        record = _open_record(spec, url, dataset, workplace, reference, command=_command(file, dataset))
        meters = front_meters(spec, num_classes=len(dataset.classes), study=str(folder))
        if storage:
            point_to_storage(folder, spec.name, storage)
        evaluator = _make_evaluator(spec, dataset, reference)
        try:
            with view(spec, folder) if view else nullcontext(_ignore) as watch:
                ended = run_study(
                    spec,
                    record=record,
                    evaluator=evaluator,
                    make_executor=lambda _: workplace.make_executor(evaluator),
                    watch=_both(watch, DashboardPage(spec, record)),
                    folder=folder.resolve(),  # a worker of a cluster has another working folder
                    time_budget_s=time_budget_s,
                    meters=meters,
                    tries=workplace.tries,
                )
        finally:
            record.close()
    files = write_report_at(StudyPlace(name=spec.name, url=url, folder=folder))
    return RunOutcome(folder=folder, ended=ended, files=tuple(files))


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


def _latency_scale(spec: StudySpec, url: str, workplace: Workplace) -> Reference | None:
    """The study's own scale where it has one, else the machine's, measured now; None where nothing is timed."""
    if not timed_quantities(spec) and not wants_int8(spec):
        return None
    from starsearch.latency import Reference
    from starsearch.records import load_attributes

    known: dict[str, Any] | None = load_attributes(url, spec.name).get("reference")
    if known is None:
        return workplace.calibrate()
    return Reference.from_dict(known)


def _command(file: str, dataset: DataSet) -> str:
    """How the study was begun, without a path of this machine."""
    named = Path(file).name if Path(file).is_absolute() else file
    return f"starsearch run {named}" + ("" if dataset.name == "digits" else f" --data {dataset.name}")


def _open_record(
    spec: StudySpec,
    url: str,
    dataset: DataSet,
    workplace: Workplace,
    reference: Reference | None,
    *,
    command: str,
) -> Any:
    from starsearch.records import StudyRecord
    from starsearch.study.signature import sign_study

    device = workplace.device() if reference else None
    signature = sign_study(spec, data=_data_in_words(dataset), device=device)
    attributes = {
        "command": command,
        "sampler": spec.sampler,
        "classes": list(dataset.classes),
        "preprocessing": _preprocessing(dataset),
    }
    if reference:
        attributes["reference"] = asdict(reference)
    return StudyRecord.open(url, spec, signature=signature, attributes=attributes)


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
