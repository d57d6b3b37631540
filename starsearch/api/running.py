"""`run_study_file`: from a YAML file to a study with a front."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.api.climbing import LadderRun, ignore
from starsearch.api.devices import check_machine, warn_of_other_resolutions
from starsearch.api.study import open_view
from starsearch.api.study_folder import StudyPlace, database_url, make_folder
from starsearch.api.workplaces import warn_of_unknown_fidelities
from starsearch.errors import DataError, StudyError
from starsearch.space import ChoiceParameter

if TYPE_CHECKING:
    from starsearch.api.climbing import View
    from starsearch.data import DataSet
    from starsearch.report.view import StudyView
    from starsearch.search import StudyEnded
    from starsearch.study.spec import StudySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOutcome:
    """What a run has left behind.

    Attributes:
        folder: of the study.
        ended: why the driver stopped, and how far it came.
        view: what the study has come to.
        files: tables, picture and page that were written.
    """

    folder: Path
    ended: StudyEnded
    view: StudyView
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
        settings: "KEY=VALUE", changes of single values in the file; "runner.KEY=VALUE", in the runner's.
        view: makes what watches the run at a fidelity from the study and its folder.
        say: is told after each later fidelity how far the one before it can be trusted.

    Raises:
        SpecError, DataError, StudyError: the user's mistake, in words; what was recorded is kept.
    """
    from starsearch.data import open_data
    from starsearch.data.names import warn_of_left_out
    from starsearch.data.shared_images import warn_of_shared_images
    from starsearch.report.files import write_report
    from starsearch.study.runner_file import load_runner
    from starsearch.study.settings import runner_settings
    from starsearch.study.study_file import load_specs

    of_study, of_runner = runner_settings(settings)
    where = load_runner(runner, of_runner)
    specs = load_specs(file, name=name, data=data, trials=trials, seed=seed, settings=of_study)
    warn_of_unknown_fidelities(where, specs)
    for spec in specs:
        check_machine(spec)
    warn_of_other_resolutions(specs[0])
    dataset = open_data(specs[0].data)
    warn_of_left_out(dataset)
    warn_of_shared_images(dataset)
    for spec in specs:
        check_batch(spec, dataset)
    # By its name from here on: a record or a report holds no path of the machine it was made on.
    specs = tuple(replace(spec, data=dataset.name) for spec in specs)
    folder = make_folder(out, specs[0].name, storage)
    place = StudyPlace(name=specs[0].name, url=storage or database_url(folder), folder=folder)
    run = LadderRun(
        specs=specs,
        place=place,
        dataset=dataset,
        runner=where,
        command=_command(file, dataset, settings, name=name, trials=trials, seed=seed),
        deadline=None if time_budget_s is None else time.monotonic() + time_budget_s,
        view=view or (lambda _spec, _folder: nullcontext(ignore)),
        is_stored_elsewhere=storage is not None,
    )
    ended = run.climb(say)
    found = open_view(place)
    return RunOutcome(folder=folder, ended=ended, view=found, files=tuple(write_report(found, folder)))


def check_batch(spec: StudySpec, dataset: DataSet) -> None:
    """Refuse a batch that the data can never fill and a subset without all classes: every trial would suffer."""
    from starsearch.data.batches import largest_filled

    rungs = spec.halving.rungs if spec.halving else ()
    samples = [spec.fidelity.samples, *(rung.samples for rung in rungs)]
    check_samples(samples, spec.fidelity.validation_samples, dataset)
    images, batch = min(dataset.num_train, *(number or dataset.num_train for number in samples)), largest_batch(spec)
    if batch > images:
        raise DataError(
            f"A training step takes batch_size {batch} images, but the fidelity {spec.fidelity.name!r} has {images} "
            f"of {dataset.name!r}. Give it more samples, or the study smaller batches: "
            f"--set recipe.batch_size={largest_filled(images)}"
        )


def largest_batch(spec: StudySpec) -> int:
    """The largest batch of the recipe and of those that are searched."""
    for parameter in spec.space.recipe_parameters:
        if parameter.name == "recipe.batch_size":
            sizes = parameter.choices if isinstance(parameter, ChoiceParameter) else (parameter.high,)
            return max(size for size in sizes if isinstance(size, int))
    return spec.recipe.batch_size


def check_samples(samples: Iterable[int | None], validation_samples: int | None, dataset: DataSet) -> None:
    """Refuse subsets with fewer images than there are classes, some of which would never be seen.

    Raises:
        DataError: with the numbers.
    """
    few = [("samples", number) for number in samples] + [("validation_samples", validation_samples)]
    for name, number in few:
        if number is not None and number < len(dataset.classes):
            raise DataError(
                f"{name} must be as many as there are classes, or more; got {number:,}, and {dataset.name!r} has "
                f"{len(dataset.classes):,} classes."
            )


def _command(file: str, dataset: DataSet, settings: Sequence[str], **options: object) -> str:
    """How the study was begun, without a path of this machine."""
    named = Path(file).name if Path(file).is_absolute() else file
    data = "" if dataset.name == "digits" else f" --data {shlex.quote(dataset.name)}"
    given = [f" --{key} {shlex.quote(str(value))}" for key, value in options.items() if value is not None]
    given += [f" --set {shlex.quote(setting)}" for setting in settings]
    return f"starsearch run {named}{data}{''.join(given)}"


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
