"""`ship`: from a study's front to a folder for the product, with a verdict against the networks one would use else."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from starsearch.api.classifier import Classifier
from starsearch.api.exporting import export_network, front_numbers, of_training, time_int8, with_data, without_baselines
from starsearch.api.networks import check_baseline, open_trial
from starsearch.api.study_folder import open_view, place_of
from starsearch.api.training import run_training
from starsearch.api.training_job import TrainingFolder, TrainingJob, plan_training
from starsearch.data import DataSet, open_data
from starsearch.data.batches import Batches, validation_batches
from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import EvaluationError, ExportError, StudyError, TrainingStoppedError, counted, first_line
from starsearch.export.format import CARD_FILE, Format, TrainedNetwork, export_written_whole, write_text
from starsearch.export.formats import find_formats
from starsearch.export.formats import formats as known_formats
from starsearch.families.text import format_architecture
from starsearch.families.timm import TimmArchitecture
from starsearch.latency.measure import Latency, MeasureSpec, measure
from starsearch.latency.reference import calibrate_reference
from starsearch.objective import LATENCY, is_accuracy, is_latency
from starsearch.progress import Progress, follow, ignore
from starsearch.report.verdict import Contender, Hits, accuracy_difference, verdict_cells, verdict_table
from starsearch.resolution import Resolution
from starsearch.yaml_file import read_yaml

VERDICT_FILE, SUMS_FILE = "verdict.csv", "SHA256SUMS"
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
        notes: what was chosen and measured on the way, a sentence each.
        table: `verdict_table`, the network first.
        note: how to read the table, in sentences.
        skipped: formats that were not written, with why.
    """

    source: str
    folder: Path
    notes: tuple[str, ...]
    table: pd.DataFrame
    note: str
    skipped: dict[str, str]


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
        options: of the trainings, as `plan_training` takes them: `recipe`, `epochs`, `batch_size`, `hardware`.

    Raises:
        StudyError: no such trial, no front, or no trial that is fast enough.
        EvaluationError: a model that timm does not have, or that does not take these images.
        ExportError: OUT holds something else, or there is no room.
        TrainingStoppedError: it was asked to stop, in a training or between later steps; the same call goes on.
    """
    numbers = _choose(study, trial=trial, knee=knee, top=top, max_latency_ms=max_latency_ms)
    _check_free(out)
    forms = find_formats(formats or known_formats().keys() - _LEFT_OUT)
    trials = {number: open_trial(study, number) for number in numbers}
    data = data or trials[numbers[0]].study.spec.data
    resolution, *others = {one.resolution for one in trials.values()}
    if others:
        raise StudyError("These networks are deployed at several resolutions; ship them one by one, with --trial.")
    dataset = open_data(data)
    trainings = out.with_name(f"{out.name}.trainings")

    def plan(number: int, seed: int) -> TrainingJob:
        folder = trainings / f"trial-{number}" / f"seed-{seed}"
        return plan_training(f"{study}:{number}", data=data, seed=seed, out=folder, **options)

    titles = {number: f"trial {number}" for number in numbers}
    titles |= {
        number: f"{one.row['anchor']} ({titles[number]})"
        for number, one in trials.items()
        if isinstance(one.row["anchor"], str)
    }
    jobs = {title: [plan(number, seed) for seed in range(seeds)] for number, title in titles.items()}
    first = jobs[titles[numbers[0]]]
    names = tuple(dict.fromkeys(name.strip().removeprefix("timm:") for name in against))
    for name in names:
        check_baseline(name, dataset, (first[0].fidelity.resolution, resolution))
        jobs[f"timm:{name}"] = [
            replace(job, architecture=TimmArchitecture(name=name), folder=trainings / name / job.folder.name, notes=())
            for job in first
        ]
    for line in (*first[0].notes, *_two_sizes(first[0], resolution)):
        say(line)
    failures: dict[str, str] = {}
    for seed in range(seeds):  # every network's first training before any's second: a first look comes early
        for name in (name for name in jobs if name not in failures):
            try:
                _train(f"{name}, seed {seed}", jobs[name][seed], dataset, runner, view, is_asked_to_stop)
            except EvaluationError as error:
                if not name.startswith("timm:"):
                    raise
                failures[name] = first_line(error)
                say(f"{name} failed and is left out of the comparison: {failures[name]}")
    step = partial(_begin, is_asked_to_stop, say)
    say("Every network is trained. They are validated image by image, and timed.")
    contenders, latencies = _judge(jobs, failures, dataset, resolution, step)
    peers = [contenders[f"timm:{name}"] for name in names]
    with export_written_whole(out) as partial_out:
        shipped = []
        for number in numbers:
            name = titles[number]
            folder = partial_out if top is None else partial_out / f"trial-{number}"
            found = _export(
                jobs[name],
                contenders[name],
                latencies[name],
                peers,
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
    numbers = front_numbers(study, top)
    if max_latency_ms is None:
        return numbers
    found = open_view(place_of(study))
    name = next((one for one in found.spec.quantities if is_latency(one)), None)
    if name is None:
        raise StudyError("The study knows no latency: choose by --knee, --trial or --top.")
    rows = without_baselines(found.complete)
    rows = rows[rows["feasible"] & rows[name].notna()]
    fast = rows[rows[name] <= max_latency_ms]
    if fast.empty:
        least = rows.sort_values(name).iloc[0]
        raise StudyError(
            f"No feasible trial takes at most {max_latency_ms:g} ms; the fastest, trial {least['number']:.0f}, takes "
            f"{least[name]:.3g} ms. Allow that much, or search smaller networks."
        )
    best = next((one for one in found.objectives if is_accuracy(one.name)), found.objectives[0])
    return [int(fast.sort_values(best.name, ascending=best.direction == "minimize")["number"].iloc[0])]


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
    if _has_ended(job, data):
        return
    with view(title, job) as watch:
        if runner is None:
            run_training(job, watch=watch, is_asked_to_stop=is_asked_to_stop)
        else:
            from starsearch.api.ray_training import run_training_on_ray

            run_training_on_ray(job, runner, watch=watch, is_asked_to_stop=is_asked_to_stop)


def _begin(is_asked_to_stop: Callable[[], bool], say: Callable[[str], None], verb: str, what: str) -> None:
    """Say what begins after the trainings; raise `TrainingStoppedError` instead where it was asked to stop."""
    if is_asked_to_stop():
        raise TrainingStoppedError(f"Stopped before {verb} {what}.")
    say(f"{verb.capitalize()} {what} …")


def _has_ended(job: TrainingJob, data: DataSet) -> bool:
    """Whether the folder holds this training with its end; of another one the training itself says what differs."""
    if not (job.folder / "summary.json").is_file():
        return False
    said = TrainingFolder(job.folder).read_summary()
    planned = {name: getattr(job.fidelity, name) for name in ("resolution", "crop_pct", "stem_stride")}
    planned |= {"architecture": format_architecture(job.architecture), "data": f"{data.name} ({data.fingerprint})"}
    recipe = {name: list(one) if isinstance(one, tuple) else one for name, one in asdict(job.recipe).items()}
    return all(said.get(name) == value for name, value in (planned | {"seed": job.seed}).items()) and (
        read_yaml(job.folder / "recipe.yaml").data == recipe
    )


def _judge(
    jobs: dict[str, list[TrainingJob]], failures: dict[str, str], data: DataSet, resolution: Resolution, step: Step
) -> tuple[dict[str, Contender], dict[str, Latency]]:
    """Validate every training's best weights image by image, and time every network, with the data's classes."""
    import torch
    from timm.utils.model import reparameterize_model

    from starsearch.training.weight_file import load_weights

    device = "cuda" if torch.cuda.is_available() else "cpu"
    batches = _validation(next(iter(jobs.values()))[0], data)
    step("calibrating", "the reference of latencies")
    spec = MeasureSpec(resolution=resolution, num_classes=len(data.classes), reference=calibrate_reference())
    contenders, latencies = {}, {}
    for name, planned in jobs.items():
        if name in failures:
            contenders[name] = Contender(name=name, failure=failures[name])
            continue
        step("validating", name)
        models: list[Any] = [load_weights(job.folder / "best.safetensors") for job in planned]
        hits = np.stack([_hits(Classifier.of_module(name, one, device), batches, device) for one in models])
        summary = TrainingFolder(planned[0].folder).read_summary()
        macs = models[0].cpu().count_macs(resolution=resolution)
        deployed: Any = planned[0].architecture
        if name.startswith("timm:"):
            deployed = reparameterize_model(models[0].net)
        step("timing", name)
        latencies[name] = follow(measure(deployed, spec))
        contenders[name] = Contender(
            name=name,
            hits=hits,
            ms=latencies[name].ms,
            ms_spread=latencies[name].spread_ms,
            num_params=summary["num_params"],
            macs=macs,
        )
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
    network = replace(
        network,
        source=f"trial {origin['trial']} of study {origin['study']}, trained in full (seed {job.seed})",
        origin={**origin, "architecture": network.origin["architecture"]},
        latencies=(latency.as_measurement(LATENCY),),
        latency_resolution=resolution,
    )
    network = with_data(network, data, job.fidelity)
    network = replace(
        network, judge=partial(_judge_int8, network, chosen.hits[best : best + 1], _validation(job, data))
    )
    exported = export_network(network, folder, forms, skipped=skipped, before=step)
    seeds = min(len(one.hits) for one in (chosen, *peers) if not one.failure)
    few = ["With fewer than three seeds, little can be told apart."] if seeds < 3 else []
    note = (
        f"Top-1 is the mean of trainings that differ in their seed ({counted(job.recipe.epochs, 'epoch')} by one "
        f"recipe, of each the best), on the same {chosen.hits.shape[1]:,} validation images; ± is the 95 % "
        f"interval of that mean over the seeds. Latency: batch 1, {resolution} px, in pairs, on "
        f"{latency.device.text}; ± is its 95 % interval. "
        "Better and worse are said where the 95 % interval of the difference (in brackets; of top-1 over seeds and "
        f"images) leaves out zero. The weights are of seed {job.seed}, the most accurate: expect the mean."
    )
    shipped = Shipped(
        source=f"{exported.source}: {exported.architecture}",
        folder=folder,
        notes=exported.notes,
        table=verdict_table(chosen, peers),
        note="\n\n".join([note, *few, *_two_sizes(job, resolution)]),
        skipped=skipped,
    )
    card, loading = (folder / CARD_FILE).read_text(encoding="utf-8"), "## How to load it"
    write_text(folder / CARD_FILE, card.replace(loading, f"{_in_words(shipped)}\n{loading}", 1))
    write_text(folder / VERDICT_FILE, shipped.table.to_csv(index=False))
    return shipped


def _two_sizes(job: TrainingJob, resolution: Resolution) -> list[str]:
    """Say that networks are timed at another resolution than they are trained at, where that is so."""
    trained = job.fidelity.resolution
    if trained == resolution:
        return []
    told = (
        f"Trained at {trained} px, timed at {resolution} px (the space's resolution), at which MACs are counted too. "
    )
    return [f"{told}Where the product's images have {trained} px, search with `resolution: {trained}` in the space."]


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


def _in_words(shipped: Shipped) -> str:
    """Return the verdict as a section of the card."""
    cells = verdict_cells(shipped.table)
    rows = [list(cells[0]), ["---"] * len(cells[0]), *(list(row.values()) for row in cells)]
    table = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    left_out = "".join(f"- `{name}` is not here. {why}\n" for name, why in shipped.skipped.items())
    return f"## Verdict\n\n{table}\n\n{shipped.note}\n\n{left_out}"


def _write_sums(folder: Path) -> None:
    """Write the checksum of every file, as `sha256sum --check` reads them."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    lines = [
        f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(folder).as_posix()}\n" for path in files
    ]
    write_text(folder / SUMS_FILE, "".join(lines))
