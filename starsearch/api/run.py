"""`run`: from a YAML file to a study with a front."""

from __future__ import annotations

import math
import re
import shlex
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from starsearch.api.curves import FOLDER, StudyCurves
from starsearch.api.estimating import choose_published, keep_estimates, published_dataset, published_spec
from starsearch.api.networks import resolve
from starsearch.api.study import Study
from starsearch.api.study_folder import (
    StudyPlace,
    agreement_with_lower,
    as_begun,
    database_url,
    make_folder,
    open_view,
    place_of,
    point_to_storage,
)
from starsearch.api.workplaces import (
    Workplace,
    check_machine,
    front_meters,
    timed_quantities,
    wants_int8,
    wants_placement,
    warn_of_other_resolutions,
    warn_of_unknown_fidelities,
)
from starsearch.bench.evidence import read_table_evidence
from starsearch.bench.making import FIDELITIES as BENCH_FIDELITIES
from starsearch.bench.table import table_files
from starsearch.data import DataSet, open_data
from starsearch.data.dataset import INTERPOLATION
from starsearch.data.names import warn_of_left_out
from starsearch.data.shared_images import warn_of_shared_images
from starsearch.errors import DataError, SpecError, StarsearchError, StudyError, counted
from starsearch.evaluators import ProxyEvaluator
from starsearch.evaluators.estimate import EstimateEvaluator
from starsearch.evaluators.footprint import FOOTPRINT
from starsearch.evaluators.latency import LatencyEvaluator
from starsearch.latency.device import device_fingerprint
from starsearch.latency.reference import Reference, calibrate_reference
from starsearch.objective import IMAGENET_TOP1
from starsearch.paper.trainings import SMALL_FIDELITIES
from starsearch.records.record import FIDELITIES, StudyRecord
from starsearch.records.table import load_attributes
from starsearch.resolution import recorded
from starsearch.search.driver import Watch, run_study
from starsearch.search.evidence import keep_evidence, kept_evidence, read_evidence
from starsearch.search.promotion import look_below
from starsearch.space import ChoiceParameter
from starsearch.study.runner_file import Runner, load_runner
from starsearch.study.spec import StudySpec
from starsearch.study.study_file import EMBEDDED_DATA, load_specs
from starsearch.study.validation import runner_settings

if TYPE_CHECKING:
    from starsearch.accuracy.evidence import Observation
    from starsearch.accuracy.posterior import Posterior
    from starsearch.evaluators.evaluator import Evaluator
    from starsearch.search.events import StudyEnded
    from starsearch.training.weight_file import TrainedWeights
    from starsearch.trial import Trial

    View = Callable[[StudySpec, Path], AbstractContextManager[Watch]]

_SMALLER_BATCH = "Give it more samples, or the study smaller batches: --set recipe.batch_size={}"
_OVER = ("complete", "space exhausted")  # why a fidelity ends that the next may follow


def run(
    study: str | Path | Mapping[str, Any] | StudySpec,
    *,
    out: str | Path = "studies",
    data: str | None = None,
    accuracy: Literal["trained", "published"] = "trained",
    runner: str | None = None,
    trials: int | None = None,
    time_budget_s: float | None = None,
    storage: str | None = None,
    name: str | None = None,
    seed: int | None = None,
    settings: Sequence[str] = (),
    earlier: str | None = None,
    evaluator: Evaluator | None = None,
    watch: Watch | None = None,
    view: View | None = None,
    say: Callable[[str], None] = lambda _line: None,
) -> Study:
    """Run a study until it has its trials, or resume it, fidelity after fidelity; write its report.

    Args:
        study: a space or study file, a shipped space's name, the mapping that such a file holds, or a `StudySpec`.
        out: the folder in which the study's folder is made.
        data: what `starsearch train` takes as --data; this, `trials`, `name` and `seed` replace what the file says.
        accuracy: "published" trains nothing and estimates ImageNet top-1 from what is published, in a study of its own
            (NAME-published); so does a study with the objective imagenet_top1_percent.
        runner: a runner file; None for this process, or Ray where RAY_ADDRESS is set.
        trials: how many finished searched trials the study should have at its first fidelity.
        time_budget_s: seconds after which no trial is started.
        storage: an Optuna storage URL; None for study.db in the study's folder.
        settings: "KEY=VALUE", changes of single values in the file; "runner.KEY=VALUE", in the runner's.
        earlier: another study on the same data, as a folder or NAME@STORAGE-URL, whose results the sampler auto
            learns from, now and when this one is resumed; its space and fidelity may be others. Or a folder of
            trainings that `reproduce` or `bench make` has made.
        evaluator: judges candidates in place of a training; see `starsearch.evaluators.evaluator.Evaluator`.
        watch: called with each event of `starsearch.search.events`, in this process.
        view: a context manager that makes `watch` for each fidelity, from its spec and the study's folder.
        say: called with what a user should know before the first trial and between two fidelities.

    Returns:
        The study; `ended` says why it stopped, `files` what was written.

    Raises:
        SpecError, DataError, StudyError: the user's mistake, in words; what was recorded is kept.
    """
    from starsearch.report.files import write_report

    deadline = math.inf if time_budget_s is None else time.monotonic() + time_budget_s
    of_study, of_runner = runner_settings(settings)
    where = load_runner(runner, of_runner)
    given: dict[str, Any] = {"name": name, "data": data, "trials": trials, "seed": seed}
    specs = _read_specs(study, of_study, where.has_gpu, **given)
    estimates = _is_estimated(specs[0], accuracy, data, evaluator)
    if estimates:
        apart = "" if name or accuracy == "trained" else "-published"
        specs = (published_spec(specs, specs[0].name + apart, say),)
    warn_of_unknown_fidelities(where, specs)
    if evaluator is None:
        for spec in specs:
            check_machine(spec)
        warn_of_other_resolutions(specs[0])
    dataset = published_dataset() if estimates else open_dataset(specs)
    # By its name from here on: a record or a report holds no path of the machine it was made on.
    specs = tuple(replace(spec, data=dataset.name) for spec in specs)
    folder = make_folder(Path(out), specs[0].name, storage)
    place = StudyPlace(name=specs[0].name, url=storage or database_url(folder), folder=folder)
    specs = as_begun(specs, place.url)
    how = accuracy if accuracy != "trained" else None
    command = _command(study, dataset, settings, accuracy=how, name=name, trials=trials, seed=seed)
    try:
        evidence = _evidence(earlier, specs[0], place, dataset, say)
        posterior, planned = choose_published(specs[0], say) if estimates else (None, None)
    except StudyError:
        with suppress(OSError):  # where it is not empty
            folder.rmdir()
        raise
    if evaluator is None and not estimates:
        say("\n".join(opening_lines(specs, dataset)))
    view = view if watch is None else lambda _spec, _folder: nullcontext(watch)
    for spec, ended in run_fidelities(
        specs,
        place,
        dataset,
        where,
        command=command,
        deadline=deadline,
        view=view,
        say=say,
        planned=planned,
        evaluator=evaluator,
        evidence=evidence,
        posterior=posterior,
    ):
        for line in agreement_with_lower(place, spec.name):
            say(line)
        if ended.why not in _OVER:
            break
    found = open_view(place)
    if evaluator is None and ended.why != "interrupted" and (estimates or dataset.name == EMBEDDED_DATA):
        keep_estimates(place, found, posterior)
        found = open_view(place)
    return Study(str(folder), found, ended=ended, files=tuple(write_report(found, folder)))


def opening_lines(specs: Sequence[StudySpec], dataset: DataSet) -> list[str]:
    """Return what a study is run on and how, in three lines."""
    fidelities = []
    for spec in specs:
        images = min(spec.fidelity.samples or dataset.num_train, dataset.num_train)
        pixels, deployed = spec.fidelity.resolution, spec.space.resolution
        fidelities.append(
            f"{spec.fidelity.name}, {counted(spec.num_epochs, 'epoch')} on {counted(images, 'image')}, trained at "
            f"{pixels} px"
        )
        if timed_quantities(spec) and pixels != deployed:
            fidelities[-1] += f", latency at {deployed} px: the space's resolution"
    return [
        f"Data:     {data_in_words(dataset).rpartition(' (')[0]}",
        f"Fidelity: {'; then '.join(fidelities)}",
        f"Sampler:  {specs[0].sampler}",
    ]


def _read_specs(
    study: str | Path | Mapping[str, Any] | StudySpec,
    settings: Sequence[str],
    has_gpu: Callable[[str], bool],
    **given: Any,
) -> tuple[StudySpec, ...]:
    if not isinstance(study, StudySpec):
        return load_specs(str(study) if isinstance(study, Path) else study, settings=settings, has_gpu=has_gpu, **given)
    if settings:
        raise SpecError("`settings` change a file's values; change a StudySpec by dataclasses.replace.")
    return (replace(study, **{name: value for name, value in given.items() if value is not None}),)


def _is_estimated(spec: StudySpec, accuracy: str, data: str | None, evaluator: Evaluator | None) -> bool:
    """Return whether a study's accuracy is estimated from what is published."""
    if accuracy not in ("trained", "published"):
        raise SpecError(f'accuracy is "trained" or "published"; got {accuracy!r}.')
    if evaluator is not None:
        if accuracy != "trained":
            raise SpecError("An evaluator of one's own says what a network's accuracy is: leave `accuracy` out.")
        return False
    is_published = accuracy == "published" or IMAGENET_TOP1 in spec.quantities
    if is_published and data is not None:
        raise StudyError("Published accuracy takes no data: nothing is trained. Leave --data or --accuracy out.")
    return is_published


def run_fidelities(
    specs: Sequence[StudySpec],
    place: StudyPlace,
    dataset: DataSet,
    runner: Runner,
    *,
    command: str,
    deadline: float,
    view: View | None,
    say: Callable[[str], None] = lambda _line: None,
    planned: Mapping[str, Sequence[Trial]] | None = None,
    evaluator: Evaluator | None = None,
    evidence: Sequence[Observation] = (),
    posterior: Posterior | None = None,
) -> Iterator[tuple[StudySpec, StudyEnded]]:
    """Run each fidelity of a study while the caller asks for more; yield how it ended.

    Args:
        specs: a study a fidelity, the lowest first.
        command: what repeats the study, for its record.
        planned: by the study's name, candidates that no sampler and no promotion chooses.
        posterior: of ImageNet top-1, judges in place of a training.
    """
    assert place.folder is not None
    lower, names = None, [spec.name for spec in specs] if planned is None else []
    weights = {spec.name: _open_weights(spec) for spec in specs}  # before anything is trained
    for asked, above in zip(specs, (*specs[1:], None), strict=True):
        given = weights[asked.name]
        # In the record they are what they are, wherever they lie.
        spec = replace(asked, fidelity=replace(asked.fidelity, weights=given.text if given else None))
        # A worker of a cluster has another working folder.
        folder = (place.folder if spec.name == specs[0].name else place.folder / spec.fidelity.name).resolve()
        folder.mkdir(parents=True, exist_ok=True)  # before a cluster's nodes are asked whether they see it
        with closing(Workplace(runner, spec, folder)) as workplace:
            reference = None if evaluator else _latency_scale(spec, place, workplace)
            device = workplace.ask_device(device_fingerprint).text if reference else None
            with closing(_open_record(spec, names, place, dataset, command, reference, device)) as record:
                if evidence and asked is specs[0]:
                    keep_evidence(record, evidence)
                num_classes, named = len(dataset.classes), str(place.folder)
                meters = {} if evaluator else front_meters(spec, num_classes=num_classes, study=named)
                if place.url != database_url(place.folder):
                    point_to_storage(place.folder, place.name, place.url)
                deployed: dict[str, Any] = {
                    "resolution": spec.space.resolution,
                    "timing": reference
                    and LatencyEvaluator(
                        reference=reference,
                        timed=timed_quantities(spec),
                        resolution=spec.space.resolution,
                        num_classes=num_classes,
                    ),
                    "profiles": spec.profiles,
                }
                judge = evaluator or (
                    ProxyEvaluator(
                        data=dataset,
                        fidelity=spec.fidelity,
                        weights=given,
                        int8=wants_int8(spec),
                        footprint=tuple(name for name in FOOTPRINT if name in spec.quantities),
                        constraints=spec.constraints,
                        coreml_placement=wants_placement(spec),
                        **deployed,
                    )
                    if posterior is None
                    else EstimateEvaluator(posterior=posterior, **deployed)
                )
                with view(spec, place.folder) if view else nullcontext(lambda _event: None) as watch:
                    ended = run_study(
                        spec,
                        record,
                        workplace.make_executor(judge),
                        StudyCurves(folder / FOLDER, watch),
                        folder=folder,
                        deadline=deadline,
                        tries=runner.tries,
                        meters=meters,
                        lower=lower,
                        planned=None if planned is None else planned[spec.name],
                        evidence=evidence,
                    )
                if above is not None and planned is None:
                    lower = look_below(above, below=spec, record=record, folder=folder)
        yield spec, ended
        if above is not None and above.promotion is not None and lower is not None:
            wanted, there = above.promotion.best + above.promotion.random, len(lower.ranked)
            if there < wanted:
                say(
                    f"Only {there} of the {wanted} candidates that {above.fidelity.name} wants can be promoted: the "
                    "others are infeasible, failed, or were stopped at a rung."
                )


def _open_weights(spec: StudySpec) -> TrainedWeights | None:
    """Return what the trainings of a fidelity begin with; refuse weights of another family than the space's."""
    if spec.fidelity.weights is None:
        return None
    from starsearch.training.transfer import compare

    try:
        found = resolve(spec.fidelity.weights).weights()
        compare(next(iter(spec.space.sample_architectures(1, spec.seed))), found.state, num_classes=1)
    except StarsearchError as error:
        raise StudyError(f"The fidelity {spec.fidelity.name!r} cannot begin with its weights: {error}") from None
    return found


def _evidence(
    earlier: str | None, spec: StudySpec, place: StudyPlace, dataset: DataSet, say: Callable[[str], None]
) -> list[Observation]:
    """Return the results of another study that is named now, or was when this one was last run."""
    if earlier is None:
        kept = kept_evidence(load_attributes(place.url, place.name)) if spec.sampler == "auto" else []
        if kept:
            names = ", ".join(dict.fromkeys(one.source for one in kept))
            say(f"Evidence from {names}: {counted(len(kept), 'result')}, kept since --from named it.")
        return kept
    if spec.sampler != "auto":
        raise StudyError(
            f"Only the sampler auto learns from another study; this one's is {spec.sampler}. "
            "Add --set search.sampler=auto."
        )
    if table_files(Path(earlier)):
        known = (*BENCH_FIDELITIES.values(), *SMALL_FIDELITIES)
        found, lines = read_table_evidence(Path(earlier), known, spec, dataset)
    else:
        other = place_of(earlier)
        is_own_folder = place.folder is not None and Path(earlier).resolve() == place.folder.resolve()
        if is_own_folder or (other.name, other.url) == (place.name, place.url):
            raise StudyError(f"A study learns from its own results anyway: name another with --from; got {earlier}.")
        found, lines = read_evidence(other.url, other.name, spec, data=data_in_words(dataset))
    for line in lines:
        say(line)
    return found


def open_dataset(specs: Sequence[StudySpec]) -> DataSet:
    """Open the data set of a study's fidelities; warn of what it leaves out, refuse what cannot be trained on it."""
    dataset = open_data(specs[0].data)
    warn_of_left_out(dataset)
    warn_of_shared_images(dataset)
    if "top5_percent" in specs[0].quantities and 0 < len(dataset.classes) <= 5:
        raise DataError(f"Of {len(dataset.classes)} classes any top5_percent is 100 %: leave it out of the study.")
    for spec in specs:
        check_batch(spec, dataset)
        check_resolutions(spec, dataset)
        _open_weights(spec)  # refused before there is a folder
    return dataset


def check_resolutions(spec: StudySpec, dataset: DataSet) -> None:
    """Refuse a fidelity, or a rung, at which some candidate would be trained on images that a pack has not."""
    from starsearch.data.memory import check_packed

    searched, base = spec.space.searched_resolution, spec.space.resolution
    rungs = spec.halving.rungs if spec.halving else ()
    for trained in {spec.fidelity.resolution, *(rung.resolution or spec.fidelity.resolution for rung in rungs)}:
        for deployed in searched.values if searched else (base,):
            fidelity = replace(spec.fidelity, resolution=trained).shaped(base).scaled(recorded(deployed), base)
            check_packed(dataset, dataset.train, fidelity.resolution)


def check_batch(spec: StudySpec, dataset: DataSet, advice: str = _SMALLER_BATCH) -> None:
    """Refuse a batch that the data can never fill and a subset without all classes: every trial would suffer."""
    from starsearch.data.batches import largest_filled

    rungs = spec.halving.rungs if spec.halving else ()
    samples = [spec.fidelity.samples, *(rung.samples for rung in rungs)]
    check_samples(samples, spec.fidelity.validation_samples, dataset)
    images, batch = min(dataset.num_train, *(number or dataset.num_train for number in samples)), largest_batch(spec)
    if batch > images:
        raise DataError(
            f"A training step takes batch_size {batch} images, but the fidelity {spec.fidelity.name!r} has {images} "
            f"of {dataset.name!r}. {advice.format(largest_filled(images))}"
        )


def largest_batch(spec: StudySpec) -> int:
    """Return the largest batch of the recipe and of those that are searched."""
    for parameter in spec.space.recipe_parameters:
        if parameter.name == "recipe.batch_size":
            sizes = parameter.choices if isinstance(parameter, ChoiceParameter) else (parameter.high,)
            return max(size for size in sizes if isinstance(size, int))
    return spec.recipe.batch_size


def check_samples(samples: Iterable[int | None], validation_samples: int | None, dataset: DataSet) -> None:
    """Refuse subsets with fewer images than there are classes, some of which would never be seen."""
    few = [("samples", number) for number in samples] + [("validation_samples", validation_samples)]
    for name, number in few:
        if number is not None and number < len(dataset.classes):
            raise DataError(
                f"{name} must be at least the number of classes; got {number:,}, and {dataset.name!r} has "
                f"{len(dataset.classes):,} classes."
            )


def data_in_words(dataset: DataSet) -> str:
    """Return name, counts and fingerprint of a data set, as a study's conditions have them."""
    if not dataset.num_validation:
        return f"{dataset.name}: {len(dataset.classes)} classes, published results alone ({dataset.fingerprint})"
    return (
        f"{dataset.name}: {len(dataset.classes)} classes, {dataset.num_train:,} training and "
        f"{dataset.num_validation:,} validation images ({dataset.fingerprint})"
    )


def parse_duration(text: str) -> float:
    """Return the seconds of "90s", "30m", "2h", "1h30m" or a plain number of seconds."""
    number = r"(\d+(?:\.\d+)?)"
    written = text.strip() + ("s" if re.fullmatch(number, text.strip()) else "")
    match = re.fullmatch(f"(?:{number}h)?(?:{number}m)?(?:{number}s)?", written)
    if not written or match is None:
        raise StudyError(f"A time budget is written as 90s, 30m, 2h or 1h30m; got {text!r}.")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    if (total := 3600 * hours + 60 * minutes + seconds) <= 0:
        raise StudyError(f"A time budget must be positive; got {text!r}.")
    return total


def _latency_scale(spec: StudySpec, place: StudyPlace, workplace: Workplace) -> Reference | None:
    """Return the scale of the first fidelity's study where it has one, else the machine's, measured now.

    None where nothing is timed.
    """
    if not timed_quantities(spec) and not wants_int8(spec):
        return None

    known: dict[str, Any] | None = load_attributes(place.url, place.name).get("reference")
    return workplace.ask_device(calibrate_reference) if known is None else Reference.from_dict(known)


def _open_record(
    spec: StudySpec,
    fidelities: list[str],
    place: StudyPlace,
    dataset: DataSet,
    command: str,
    reference: Reference | None,
    device: str | None,
) -> StudyRecord:
    attributes = {
        "command": command,
        "classes": list(dataset.classes),
        "preprocessing": {
            "mean": list(dataset.mean),
            "std": list(dataset.std),
            "interpolation": INTERPOLATION,
            "orientation": dataset.orientation,
        },
    }
    if reference:
        attributes["reference"] = asdict(reference)
    conditions = {"data": data_in_words(dataset)} | ({"device": device} if device else {})
    record = StudyRecord.open(place.url, spec, conditions=conditions, attributes=attributes)
    # A later version of the file may have more fidelities: candidates are linked by what they are.
    if len(fidelities) > 1 and spec.name == fidelities[0] and record.attribute(FIDELITIES) != fidelities:
        record.set_attribute(FIDELITIES, fidelities)
    return record


def _command(study: object, dataset: DataSet, settings: Sequence[str], **options: object) -> str:
    """Return how the study was begun, without a path of this machine."""
    if not isinstance(study, str | Path):
        return "starsearch.run(…)"
    named = Path(study).name if Path(study).is_absolute() else study
    data = "" if dataset.name == EMBEDDED_DATA or not dataset.num_validation else f" --data {shlex.quote(dataset.name)}"
    given = [f" --{key} {shlex.quote(str(value))}" for key, value in options.items() if value is not None]
    given += [f" --set {shlex.quote(setting)}" for setting in settings]
    return f"starsearch run {named}{data}{''.join(given)}"
