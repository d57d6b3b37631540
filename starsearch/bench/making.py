"""Rows for the table: trainings at a fidelity, latencies, and signals."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.bench.networks import bench_networks
from starsearch.bench.table import LATENCY_ROWS, SIGNAL, SIGNAL_ROWS, append_row, read_table
from starsearch.data import DataSet
from starsearch.errors import EvaluationError, StudyError
from starsearch.evaluators.latency import measure_latency, without_measuring
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import architecture_hash, format_architecture
from starsearch.latency.device import device_fingerprint, processor_name
from starsearch.progress import Progress, mapped
from starsearch.recipe import Fidelity, with_batch_size
from starsearch.study.recipe_file import load_recipe

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.latency.reference import Reference

QUICK = "quick"
FIDELITIES = {
    # A fifth of the proxy's time, a sixth of its images: whether so short a training, annealed, says anything of it.
    QUICK: Fidelity(name=QUICK, epochs=1, samples=5_000, validation_samples=5_000, recipe="proxy"),
    "proxy": Fidelity(name="proxy", epochs=3, samples=10_000, validation_samples=5_000, recipe="proxy"),
    # Of the networks that are trained by three seeds alone: whether the proxy ranks as a longer training does.
    "medium": Fidelity(name="medium", epochs=6, samples=20_000, validation_samples=5_000, recipe="proxy"),
    # Meant for a GPU: at the published stride the last stages of a 32 px image see maps of 2 and 1 pixels.
    "long": Fidelity(name="long", epochs=20, samples=50_000, stem_stride=1, recipe="proxy"),
}
Row = dict[str, Any]
Make = Callable[[Architecture, int], Generator[Progress, None, Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Rows of one kind that are wanted, and how each is made.

    Attributes:
        name: what stands in the column "fidelity".
        wanted: the networks and their seeds, in the order in which they are made.
        make: yields progress, returns the columns that are this kind's own.
        processor: what makes them, to foresee how long another takes.
        conditions: a digest that all rows of the fidelity share.
    """

    name: str
    wanted: Sequence[tuple[Architecture, int]]
    make: Make
    processor: str
    conditions: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """How far a slice is.

    Attributes:
        there: how many of the rows are there.
        wanted: how many there are to be.
        seconds_left: what the rest will take on this processor; NaN before its first row.
        last: the row that was made last, if one was.
    """

    there: int
    wanted: int
    seconds_left: float
    last: Row | None = None


def training_slice(
    fidelity: Fidelity,
    data: DataSet,
    *,
    wanted: Sequence[tuple[Architecture, int]],
    checkpoints: Path | None = None,
) -> Slice:
    """Return trainings at a fidelity, by its recipe; on a GPU where there is one, else by torch's threads.

    Data of fewer images than the recipe's batch is taken as one batch, with the learning rate that goes with it.

    Args:
        checkpoints: a folder from which a training that was cut off goes on; None where each is short.
    """
    import torch

    recipe = load_recipe(fidelity.recipe)
    if recipe.batch_size > data.num_train:
        recipe = with_batch_size(recipe, data.num_train // 2 * 2)  # mixup takes pairs
    is_cuda = torch.cuda.is_available()
    processor = torch.cuda.get_device_name() if is_cuda else processor_name()

    def make(architecture: Architecture, seed: int) -> Generator[Progress, None, Row]:
        from starsearch.training import train

        curve: list[str] = []
        began = time.process_time()

        def note(progress: Progress) -> Progress:
            nonlocal began
            if progress.stage == "reading images":
                began = time.process_time()  # images are decoded once for all trainings
            if progress.epoch is not None:
                curve.append(f"{progress.values['top1_percent']:.2f}")
            return progress

        kept = None
        if checkpoints is not None:
            checkpoints.mkdir(parents=True, exist_ok=True)
            kept = checkpoints / f"{architecture_hash(architecture)}-{seed}.pt"
        device = "cuda" if is_cuda else "cpu"
        training = train(
            architecture, data=data, recipe=recipe, fidelity=fidelity, seed=seed, device=device, checkpoint=kept
        )
        result = yield from mapped(without_measuring(training), note)
        if kept is not None:
            kept.unlink(missing_ok=True)
        return {
            "top1_percent": round(result.top1_percent, 3),
            "curve": " ".join(curve),
            "seconds": round(result.seconds, 2),
            "cpu_seconds": round(time.process_time() - began, 2),
            "threads": torch.get_num_threads(),
        }

    return Slice(
        name=fidelity.name,
        wanted=wanted,
        make=make,
        processor=processor,
        conditions=_digest(fidelity, recipe, data.fingerprint),
    )


def latency_slice(folder: Path, *, networks: int) -> Slice:
    """Return the latencies on this machine's processor, on the scale of those that the folder has (`measure_row`)."""
    scale = cache(lambda: kept_scale(read_table(folder)))  # when the first network is measured
    return Slice(
        name=LATENCY_ROWS,
        wanted=[(one, 0) for one in bench_networks(networks)],
        make=lambda architecture, seed: measure_row(architecture, scale(), seed=seed),
        processor=processor_name(),
        conditions=_digest(device_fingerprint().text),
    )


def kept_scale(rows: pd.DataFrame) -> Reference:
    """Calibrate the reference; its time is the one on whose scale the rows are, where there are any."""
    from starsearch.latency.reference import calibrate_reference

    known, found = rows["reference_ms"].dropna(), calibrate_reference()
    return replace(found, ms=float(known.iloc[0])) if len(known) else found


def measure_row(architecture: Architecture, scale: Reference, *, seed: int) -> Generator[Progress, None, Row]:
    """Yield progress; return the columns of a network's latency: batch 1, one thread, 224 px, 1000 classes."""
    found = yield from measure_latency(architecture, reference=scale, resolution=224, num_classes=1000, seed=seed)
    latency = {"latency_ms": found.value, "latency_spread_ms": found.spread, "reference_ms": scale.ms}
    return {"threads": 1} | {name: round(ms, 4) for name, ms in latency.items() if ms is not None}


def signal_slice(data: DataSet, *, networks: int) -> Slice:
    """Return every signal of the untrained networks, shown the data's images."""
    from starsearch.accuracy.signals import SIGNALS, make_batches, read_signals

    batches = cache(lambda: make_batches(data))  # when the first network is read

    def make(architecture: Architecture, seed: int) -> Generator[Progress, None, Row]:
        found = yield from without_measuring(read_signals([architecture], batches(), seed=seed))
        values = found.iloc[0].dropna()
        return {f"{SIGNAL}{name}": float(f"{value:.8g}") for name, value in values.items()}

    return Slice(
        name=SIGNAL_ROWS,
        wanted=[(one, 0) for one in bench_networks(networks)],
        make=make,
        processor=processor_name(),
        conditions=_digest(list(SIGNALS), data.fingerprint),
    )


def _digest(*rests_on: object) -> str:
    return hashlib.sha256(repr(rests_on).encode()).hexdigest()[:12]


def make_slice(
    wanted: Slice, folder: Path, *, names: Mapping[Architecture, str], deadline: float = float("inf")
) -> Generator[Made]:
    """Make the rows of a slice that are not there yet, each written as it ends; yield how far it is between them.

    Args:
        names: of the networks that have one.
        deadline: the monotonic clock's time in seconds at which it stops: no row is begun that is not foreseen to end
            by then, and one that takes longer is given up.

    Raises:
        StudyError: the folder's rows of this fidelity were made under other conditions, or a row cannot be written.
    """
    texts = {one: format_architecture(one) for one, _ in wanted.wanted}
    last: Row | None = None
    while True:
        rows = read_table(folder)  # anew: another process may add to it
        rows = rows[rows["fidelity"] == wanted.name]
        if set(rows["conditions"].dropna()) - {wanted.conditions}:
            raise StudyError(
                f"The rows of the fidelity {wanted.name!r} in {folder} were made with another recipe, data set, "
                "fidelity or device: give a new table another --out."
            )
        there = set(zip(rows["network"], rows["seed"], strict=True))
        todo = [(one, seed) for one, seed in wanted.wanted if (texts[one], seed) not in there]
        here = rows[(rows["device"] == wanted.processor) & rows["failed"].isna()]
        rate = float((here["seconds"] / here["macs"]).median())
        left = rate * sum(count_macs(one) for one, _ in todo) if todo else 0.0
        yield Made(there=len(wanted.wanted) - len(todo), wanted=len(wanted.wanted), seconds_left=left, last=last)
        if not todo:
            return
        architecture, seed = todo[0]
        macs = count_macs(architecture)
        if time.monotonic() + rate * macs > deadline:  # not where the rate is not known
            return
        made = _run(wanted.make(architecture, seed), deadline)
        if made is None:
            return
        key = {"fidelity": wanted.name, "network": texts[architecture], "seed": seed}
        own = {"macs": macs, "num_params": count_params(architecture), "device": wanted.processor}
        name = {"name": names[architecture]} if names.get(architecture) else {}
        last = {**key, **name, **own, "conditions": wanted.conditions, **made}
        append_row(folder, last)


def _run(steps: Generator[Progress, None, Row], deadline: float) -> Row | None:
    """Return a row's own columns; None where the deadline passes."""
    began = time.monotonic()
    try:
        while time.monotonic() < deadline:
            next(steps)
    except StopIteration as stop:
        return {"seconds": round(time.monotonic() - began, 2), **stop.value}
    except EvaluationError as error:
        return {"failed": str(error), "seconds": round(time.monotonic() - began, 2)}
    finally:
        steps.close()
    return None
