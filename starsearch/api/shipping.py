"""`ship`: from a study's front to a folder for the product, with a verdict against the networks one would use else."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starsearch.api.classifier import Classifier
from starsearch.api.exporting import (
    front_numbers,
    of_training,
    refuse_timm,
    time_int8,
    with_data,
    without_baselines,
    write_network,
)
from starsearch.api.networks import open_trial
from starsearch.api.study_folder import open_view, place_of
from starsearch.api.training import run_training
from starsearch.api.training_job import TrainingJob, plan_training
from starsearch.data import DataSet, open_data
from starsearch.data.batches import Batches, validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import DataError, ExportError, StudyError, TrainingStoppedError, counted
from starsearch.export.card import cell
from starsearch.export.format import CARD_FILE, Format, TrainedNetwork, export_written_whole, write_text
from starsearch.export.formats import find_formats
from starsearch.export.formats import formats as known_formats
from starsearch.families.text import format_architecture
from starsearch.families.timm import TIMM, TimmArchitecture
from starsearch.latency.measure import Latency, MeasureSpec, measure
from starsearch.latency.reference import calibrate_reference
from starsearch.objective import LATENCY, is_accuracy, is_latency
from starsearch.progress import Progress, follow, ignore
from starsearch.report.verdict import Contender, Hits, accuracy_difference, verdict_cells, verdict_table
from starsearch.resolution import Resolution
from starsearch.search.executor import failure_reason

VERDICT_FILE, SUMS_FILE = "verdict.csv", "SHA256SUMS"
_ENDED_FILE = "shipped.txt"  # of a training: what it was, written when it has ended
_LEFT_OUT = {"coreml-fp32"}  # the same as another format, for networks that it does not suit
_VALIDATION_BATCH = 256
Step = Callable[[str, str], None]  # is told what begins: a verb and its object; raises where it must not
View = Callable[[str, TrainingJob], AbstractContextManager[Callable[[Progress], None]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shipped:
    """One network of a study, ready to be used.

    Attributes:
        source: which network it is, and of which training its weights are.
        folder: where its files lie.
        table: `verdict_table`, the network first.
        notes: how to read the table, and which formats were not written and why, a paragraph each.
    """

    source: str
    folder: Path
    table: pd.DataFrame
    notes: tuple[str, ...]


def ship(
    study: str,
    *,
    out: Path,
    data: str | None = None,
    trial: int | None = None,
    knee: bool = False,
    top: int | None = None,
    max_latency_ms: float | None = None,
    against: Sequence[str] = (),
    seeds: int = 3,
    formats: Sequence[str] = (),
    runner: str | None = None,
    view: View = lambda _title, _job: nullcontext(ignore),
    is_asked_to_stop: Callable[[], bool] = lambda: False,
    say: Callable[[str], None] = lambda _: None,
    **options: Any,
) -> list[Shipped]:
    """Train networks of a study in full beside models of timm's, compare them, and export them.

    All are trained by the same recipe on the same data, once for each seed, and timed on this machine by the paired
    protocol. The trainings lie in OUT.trainings, where the same call finds what is done and goes on.

    Args:
        study: a folder, or NAME@STORAGE-URL.
        out: the folder to make; with `top`, it holds a folder per network.
        data: as `open_data` takes it; None is the study's.
        trial, knee, top, max_latency_ms: which networks; at most one of them, else the front's knee.
        against: names of timm's models.
        seeds: trainings of each network.
        formats: names of `starsearch.export.formats.formats`; none are all that can be written here.
        runner: a runner file or a shipped one's name, where trainings run; None is this process.
        view: shows a training.
        options: of the trainings, as `plan_training` takes them: `recipe`, `epochs`, `batch_size`, `resolution`,
            `hardware`, and `weights`, with which the study's networks begin, not timm's.

    Raises:
        StudyError: no such trial, no front, or no trial that is fast enough.
        EvaluationError: a model that timm does not have, or that does not take these images.
        ExportError: OUT holds something else, or there is no room.
        TrainingStoppedError: it was asked to stop, in a training or between later steps; the same call goes on.
    """
    from starsearch.families.timm_module import check_baseline

    numbers = _choose(study, trial=trial, knee=knee, top=top, max_latency_ms=max_latency_ms)
    if top is not None and len(numbers) < top:
        say(f"The front has {counted(len(numbers), 'network')} to ship, not {top}.")
    _check_free(out)
    forms = find_formats(formats or known_formats().keys() - _LEFT_OUT)
    trials = {number: open_trial(study, number) for number in numbers}
    for one in trials.values():
        refuse_timm(one.row["architecture_text"])
    data = data or trials[numbers[0]].study.spec.data
    resolution, *others = {one.resolution for one in trials.values()}
    if others:
        raise StudyError("These networks are deployed at several resolutions; ship them one by one, with --trial.")
    dataset = open_data(data)
    titles = {
        number: f"{one.row['anchor']} (trial {number})" if isinstance(one.row["anchor"], str) else f"trial {number}"
        for number, one in trials.items()
    }
    trainings = out.with_name(f"{out.name}.trainings").resolve()  # Ray takes no relative path
    jobs = {
        title: [
            plan_training(
                f"{study}:{number}", data=data, seed=seed, out=trainings / f"trial-{number}" / f"seed-{seed}", **options
            )
            for seed in range(seeds)
        ]
        for number, title in titles.items()
    }
    first = jobs[titles[numbers[0]]]
    for line in (*first[0].notes, *_two_sizes(first[0], resolution)):
        say(line)
    for title, (job, *_) in jobs.items():
        _check_weights(title, job, dataset, say)
    peers = {f"{TIMM}{name.strip().removeprefix(TIMM)}": name.strip().removeprefix(TIMM) for name in against}
    for title, name in peers.items():
        check_baseline(name, num_classes=len(dataset.classes), resolutions=(first[0].fidelity.resolution, resolution))
        theirs: dict[str, Any] = {"architecture": TimmArchitecture(name=name), "notes": (), "weights": None}
        jobs[title] = [replace(job, folder=trainings / name / job.folder.name, **theirs) for job in first]
    failures: dict[str, str] = {}
    for seed in range(seeds):  # every network's first training before any's second: a first look comes early
        for name in (name for name in jobs if name not in failures):
            with _leaving_out(name, failures, say):
                _train(f"{name}, seed {seed}", jobs[name][seed], dataset, runner, view, is_asked_to_stop)
    step = partial(_begin, is_asked_to_stop, say)
    say("Every network is trained. They are validated image by image, and timed.")
    contenders, latencies = _judge(jobs, failures, dataset, resolution, step, say)
    with export_written_whole(out) as partial_out:
        shipped = []
        for number in numbers:
            name = titles[number]
            folder = partial_out if top is None else partial_out / f"trial-{number}"
            found = _export(
                jobs[name],
                contenders[name],
                latencies[name],
                [contenders[title] for title in peers],
                dataset,
                folder,
                forms,
                resolution=resolution,
                step=step,
                origin={"study": trials[number].study.name, "trial": str(number)},
            )
            shipped.append(replace(found, folder=out / folder.relative_to(partial_out)))
        _write_sums(partial_out)
    return shipped


def _choose(study: str, *, trial: int | None, knee: bool, top: int | None, max_latency_ms: float | None) -> list[int]:
    """Return the numbers of the trials to ship."""
    given = {"--trial": trial is not None, "--knee": knee, "--top": top, "--max-latency": max_latency_ms is not None}
    if sum(map(bool, given.values())) > 1:
        raise StudyError(f"Choose one of {', '.join(name for name, value in given.items() if value)}.")
    if trial is not None:
        return [trial]
    if max_latency_ms is None:
        return front_numbers(study, top)
    front_numbers(study, 1)  # says why where there is no front
    found = open_view(place_of(study))
    name = next((one for one in found.spec.quantities if is_latency(one)), None)
    if name is None:
        raise StudyError("The study knows no latency: choose by --knee, --trial or --top.")
    rows = without_baselines(found.complete)
    rows = rows[rows["feasible"] & rows[name].notna()].sort_values(name)
    fast = rows[rows[name] <= max_latency_ms]
    if fast.empty:
        fastest = zip(rows["number"][:1], rows[name], strict=False)
        least = "".join(f"; the fastest, trial {number}, takes {ms:.3g} ms" for number, ms in fastest)
        raise StudyError(
            f"No feasible trial takes at most {max_latency_ms:g} ms{least}. Allow more, or search smaller networks."
        )
    best = next((one for one in found.objectives if is_accuracy(one.name)), found.objectives[0])
    return [int(fast.sort_values(best.name, ascending=best.direction == "minimize")["number"].iloc[0])]


def _check_weights(title: str, job: TrainingJob, data: DataSet, say: Callable[[str], None]) -> None:
    """Say how a network begins with the weights of another; refuse those of another family, and pruned ones."""
    from starsearch.training.transfer import compare

    if job.weights is None:
        return
    starts = compare(job.architecture, job.weights.for_data(data), num_classes=len(data.classes))
    begins = ", ".join(f"{count} {how}" for how, count in Counter(one.how for one in starts).items())
    say(f"{title} begins with the weights of {job.weights.name}; its layers: {begins}.")


def _check_free(out: Path) -> None:
    """Refuse a folder that holds what `ship` has not written: it is replaced as a whole."""
    is_ours = (out / SUMS_FILE).is_file() and any(out.rglob(VERDICT_FILE))
    if out.exists() and not is_ours and (not out.is_dir() or any(out.iterdir())):
        raise ExportError(f"{out} was not written by starsearch ship, which would replace it. Choose another --out.")


def _train(
    title: str,
    job: TrainingJob,
    data: DataSet,
    runner: str | None,
    view: View,
    is_asked_to_stop: Callable[[], bool],
) -> None:
    """Train, or resume a training; one that has ended as it was planned is left as it is."""
    # Of a folder with another training the training itself says what differs.
    what = format_architecture(job.architecture), job.recipe, job.fidelity, job.weights and job.weights.text, job.seed
    ended, identity = job.folder / _ENDED_FILE, f"{data.fingerprint} {what!r}"
    if ended.is_file() and ended.read_text(encoding="utf-8") == identity:
        return
    with view(title, job) as watch:
        if runner is None:
            run_training(job, watch=watch, is_asked_to_stop=is_asked_to_stop)
        else:
            from starsearch.api.ray_training import run_training_on_ray

            run_training_on_ray(job, runner, watch=watch, is_asked_to_stop=is_asked_to_stop)
    write_text(ended, identity)


@contextmanager
def _leaving_out(name: str, failures: dict[str, str], say: Callable[[str], None]) -> Iterator[None]:
    """Go on without a model of timm's that fails, as a study does; of our own networks a failure is an error."""
    try:
        yield
    except (StudyError, DataError, TrainingStoppedError):
        raise
    except Exception as error:  # whatever a model may raise
        if not name.startswith(TIMM):
            raise
        failures[name] = failure_reason(error).removeprefix("EvaluationError: ")
        say(f"{name} failed and is left out of the comparison: {failures[name]}")


def _begin(is_asked_to_stop: Callable[[], bool], say: Callable[[str], None], verb: str, what: str) -> None:
    """Say what begins after the trainings; raise `TrainingStoppedError` instead where it was asked to stop."""
    if is_asked_to_stop():
        raise TrainingStoppedError(f"Stopped before {verb} {what}.")
    say(f"{verb.capitalize()} {what} …")


def _judge(
    jobs: dict[str, list[TrainingJob]],
    failures: dict[str, str],
    data: DataSet,
    resolution: Resolution,
    step: Step,
    say: Callable[[str], None],
) -> tuple[dict[str, Contender], dict[str, Latency]]:
    """Validate every training's best weights image by image, and time every network, with the data's classes."""
    from timm.utils.model import reparameterize_model

    from starsearch.training import find_device
    from starsearch.training.weight_file import load_weights

    device = find_device()
    batches = _validation(next(iter(jobs.values()))[0], data)
    step("calibrating", "the reference of latencies")
    spec = MeasureSpec(resolution=resolution, num_classes=len(data.classes), reference=calibrate_reference())
    contenders, latencies = {}, {}
    for name, planned in jobs.items():
        if name not in failures:
            with _leaving_out(name, failures, say):
                step("validating", name)
                models: list[Any] = [load_weights(job.folder / "best.safetensors") for job in planned]
                hits = np.stack([_hits(Classifier.of_module(name, one, device), batches, device) for one in models])
                network: Any = load_weights(planned[0].folder / "best.safetensors")  # with the stem that is shipped
                if is_timm := isinstance(planned[0].architecture, TimmArchitecture):
                    network.net = reparameterize_model(network.net)
                step("timing", name)
                latencies[name] = follow(measure(network.net if is_timm else network, spec))
                contenders[name] = Contender(
                    name=name,
                    hits=hits,
                    ms=latencies[name].ms,
                    ms_spread=latencies[name].spread_ms,
                    num_params=sum(one.numel() for one in network.parameters()),
                    macs=network.count_macs(resolution=resolution),
                )
        if name in failures:
            contenders[name] = Contender(name=name, failure=failures[name])
    return contenders, latencies


def _validation(job: TrainingJob, data: DataSet) -> Batches:
    prepared = Preprocessing.of(data, job.fidelity)
    return follow(validation_batches(data, prepared, batch_size=_VALIDATION_BATCH))


def _hits(classifier: Classifier, batches: Batches, device: str = "cpu") -> Hits:
    """Return (images,), whether the likeliest class of each is its own."""
    import torch

    with torch.inference_mode():
        found = [classifier.logits(images.to(device)).argmax(1).cpu() == targets for images, targets in batches]
    return torch.cat(found).numpy()


def _export(
    jobs: Sequence[TrainingJob],
    chosen: Contender,
    latency: Latency,
    peers: Sequence[Contender],
    data: DataSet,
    folder: Path,
    forms: Sequence[Format],
    *,
    resolution: Resolution,
    step: Step,
    origin: dict[str, str],
) -> Shipped:
    """Write the most accurate training's network in every format, with the verdict in its card."""
    best = int(chosen.hits.mean(axis=1).argmax())
    job, skipped = jobs[best], dict[str, str]()
    network, _, _ = of_training(job.folder, job.data, ())
    begun = f", from the weights of {job.weights.name}" if job.weights else ""
    network = replace(
        network,
        source=f"trial {origin['trial']} of study {origin['study']}, trained in full (seed {job.seed}{begun})",
        origin={**origin, "architecture": network.origin["architecture"]},
        latencies=(latency.as_measurement(LATENCY),),
        latency_resolution=resolution,
    )
    network = with_data(network, data, job.fidelity)
    network = replace(
        network, judge=partial(_judge_int8, network, chosen.hits[best : best + 1], _validation(job, data))
    )
    exported = write_network(network, folder, forms, skipped=skipped, before=step)
    seeds = min(len(one.hits) for one in (chosen, *peers) if not one.failure)
    few = ["With fewer than three seeds, little can be told apart."] if seeds < 3 else []
    if job.weights and peers:
        few.append(f"It began with the weights of {job.weights.name}, timm's models with new ones: not like for like.")
    note = (
        f"Top-1 is the mean of trainings that differ in their seed ({counted(job.recipe.epochs, 'epoch')} by one "
        f"recipe, of each the best), on the same {chosen.hits.shape[1]:,} validation images; ± is the 95 % "
        f"interval of that mean over the seeds. Latency: batch 1, {resolution} px, in pairs, on "
        f"{latency.device.text}; ± is its 95 % interval. "
        "Better and worse are said where the 95 % interval of the difference (in brackets; of top-1 over seeds and "
        f"images) leaves out zero. The weights are of seed {job.seed}, the most accurate: expect the mean."
    )
    lacking = [f"{name} is not there: {why}" for name, why in skipped.items()]
    table, notes = verdict_table(chosen, peers), (note, *few, *_two_sizes(job, resolution), *exported.notes, *lacking)
    cells = verdict_cells(table)
    rows = [list(cells[0]), ["---"] * len(cells[0]), *(map(cell, row.values()) for row in cells)]
    lines = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    card, loading = (folder / CARD_FILE).read_text(encoding="utf-8"), "## How to load it"
    verdict = "\n\n".join(["## Verdict", lines, *notes, loading])
    write_text(folder / CARD_FILE, card.replace(loading, verdict, 1))
    write_text(folder / VERDICT_FILE, table.to_csv(index=False))
    return Shipped(source=f"{exported.source}: {exported.architecture}", folder=folder, table=table, notes=notes)


def _two_sizes(job: TrainingJob, resolution: Resolution) -> list[str]:
    """Say that networks are timed at another resolution than they are trained at, where that is so."""
    trained = job.fidelity.resolution
    if trained == resolution:
        return []
    return [
        (
            f"Trained at {trained} px, timed at {resolution} px (the space's resolution), where MACs are counted too. "
            f"Where the product's images have {resolution} px, train at that too: `--resolution {resolution}`; where "
            f"they have {trained} px, search with `resolution: {trained}` in the space."
        )
    ]


def _judge_int8(network: TrainedNetwork, float32: Hits, batches: Batches, graph: bytes) -> list[str]:
    """Say what the network gains and loses in 8-bit integers; refuse it where it does not pay."""
    int8 = _hits(Classifier.of_onnx(Path("model.int8.onnx"), graph), batches)[None]
    difference, time = accuracy_difference(int8, float32), time_int8(network, graph).interval
    said = (
        (
            f"as int8 it takes {time.low:.2f} to {time.high:.2f} times as long as in float32 here, and its top-1 is "
            f"{100 * int8.mean():.2f} %, {difference.low:+.2f} to {difference.high:+.2f} points from float32's."
        )
        .replace(", -", ", −")
        .replace("to -", "to −")
    )
    if time.high >= 1 or difference.high < 0:
        raise ExportError(f"It does not pay: {said}")
    return [said]


def _write_sums(folder: Path) -> None:
    """Write the checksum of every file, as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    ]
    write_text(folder / SUMS_FILE, "".join(lines))
