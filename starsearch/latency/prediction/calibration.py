"""Calibrating a device: measure networks that tell its coefficients apart, keep each as it comes, fit."""

from __future__ import annotations

import json
import re
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

import numpy as np

from starsearch.errors import EvaluationError, SpecError, first_line
from starsearch.export.onnx import build_onnx
from starsearch.export.weights import random_weights
from starsearch.families.family import Architecture, lower
from starsearch.families.layers import BRANCH_OPS, Layer
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.backends.onnxruntime import build_session, draw_input
from starsearch.latency.device import Device, device_fingerprint, vector_width
from starsearch.latency.lock import computing, measuring
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.paired import PairLimits
from starsearch.latency.prediction.fitting import (
    MIN_SAMPLES,
    VECTOR_WIDTHS,
    Fit,
    choose_informative,
    describe_errors,
    fit_coefficients,
    log_error,
    prediction_interval,
    scale_parts,
)
from starsearch.latency.prediction.imported import Sample
from starsearch.latency.prediction.predict import predict_parts
from starsearch.latency.prediction.profile import DeviceProfile
from starsearch.latency.prediction.terms import layer_kinds, sort_of_work
from starsearch.latency.reference import Reference, calibrate_reference
from starsearch.progress import Progress, mapped
from starsearch.resolution import Resolution

# Wider than a single measurement's: a fit averages over networks.
LIMITS = PairLimits(min_pairs=10, max_pairs=20, half_width=0.02)
MIN_ADAPTED = 5
_PROFILED_BACKEND = "onnxruntime-cpu"
_POOL = 1000  # networks of a space to choose from
_RANDOM_EVERY = 3  # the rest are chosen: what is drawn as the space is shows how well the space is predicted
_RUNS = 15
_WARM_UP_RUNS = 3
_KERNEL = "_kernel_time"
# What ONNX Runtime appends to the name of a node that it rewrote, and the ONNX builder to a layer's first node.
_SUFFIXES = ("_nchwc", ".map")


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured for a profile."""

    reference: Reference  # the scale
    samples: tuple[Sample, ...]  # networks in the order of measurement
    notes: tuple[str, ...] = ()  # what a reader should know of how they were measured, a sentence or two each


@dataclass(frozen=True, slots=True)
class CalibrationLog:
    """Samples kept in a file from the moment they are measured, so that an interrupted calibration can resume.

    The file holds JSON lines; the first says how they were measured.
    """

    path: Path
    resolution: Resolution

    def read(self) -> Calibration | None:
        """Return what an interrupted calibration left; None where there is none."""
        try:
            head, *lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
            first = json.loads(head)
            reference, resolution = Reference.from_dict(first["reference"]), first["resolution"]
            complete = [line for line in lines if line.endswith("\n")]
            if complete != lines:  # a killed process has not finished the last one, and others will follow it
                self.path.write_text("".join([head, *complete]), encoding="utf-8")
            samples = tuple(Sample(**json.loads(line)) for line in complete)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SpecError(
                f"{self.path} is not what an interrupted calibration leaves ({error}); move it away."
            ) from error
        if resolution != self.resolution:
            raise SpecError(
                f"{self.path} holds an interrupted calibration at {resolution} px; now networks are measured at "
                f"{self.resolution} px. Resume it with the space it was begun with, or delete the file."
            )
        return Calibration(reference=reference, samples=samples)

    def begin(self, reference: Reference) -> None:
        """Start a file with this scale."""
        self._write({"reference": asdict(reference), "resolution": self.resolution}, "w")

    def add(self, sample: Sample) -> None:
        """Keep one more."""
        self._write(asdict(sample), "a")

    def remove(self) -> None:
        """Delete the file: the calibration is complete."""
        self.path.unlink(missing_ok=True)

    def _write(self, line: Mapping[str, object], mode: str) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open(mode, encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
        except OSError as error:
            raise SpecError(f"What is measured cannot be kept in {self.path}: {error.strerror}.") from error


def choose_networks(
    candidates: Iterable[Architecture], count: int, *, resolution: Resolution, vector_width: int
) -> list[Architecture]:
    """Choose networks to calibrate with: two of three the most informative of a pool, the third as it was drawn.

    Any beginning of the list is the choice of a smaller count; fewer come where the pool has fewer. What is drawn at
    random shows how well the space is predicted, which its most unusual networks alone do not.
    """
    pool = list(islice(candidates, _POOL))
    informative = iter(choose_informative(pool, count, resolution=resolution, vector_width=vector_width))
    drawn = iter(pool)
    chosen: dict[Architecture, None] = {}
    while len(chosen) < min(count, len(pool)):
        is_random = len(chosen) % _RANDOM_EVERY == _RANDOM_EVERY - 1
        source = drawn if is_random else informative
        chosen.setdefault(next(network for network in chain(source, drawn) if network not in chosen))
    return list(chosen)


def measure_networks(
    architectures: Sequence[Architecture],
    *,
    spec: MeasureSpec,
    log: CalibrationLog | None = None,
    deployed: bool = False,
) -> Generator[Progress, None, Calibration]:
    """Measure each on this machine; yield progress. One that cannot be measured is left out, with a note.

    Where `spec` has no reference, the log's or a new one is the scale. The log keeps each sample at once, with its
    profile; what it holds is not measured again but counts, whether it is among `architectures` or not. `deployed`
    pads channels where that is faster; a fit is of the very layers that an architecture names.
    """
    backend = spec.open_backend()
    begun = log.read() if log else None
    if begun is None:
        yield Progress(fraction=0.0, stage="reference network")
        begun = Calibration(reference=spec.reference or calibrate_reference(backend), samples=())
        if log:
            log.begin(begun.reference)
    begun.reference.check_device(backend.describe_device())
    spec = replace(spec, reference=begun.reference)
    is_profiled = spec.backend == _PROFILED_BACKEND
    known = {sample.architecture: sample for sample in begun.samples}
    notes: list[str] = []
    for index, architecture in enumerate(architectures):
        text = format_architecture(architecture)
        if text in known:
            continue
        progress = Progress(fraction=index / len(architectures), stage=f"network {index + 1}/{len(architectures)}")
        yield progress
        try:
            network: Architecture | bytes = architecture
            if is_profiled and not deployed:  # as ONNX, of which `measure` pads nothing
                with computing():
                    layers = lower(architecture, resolution=spec.resolution)
                    network = build_onnx(layers, random_weights(layers, np.random.default_rng(spec.seed)))
            steps = measure(network, spec)
            found = yield from mapped(steps, lambda step, at=progress: replace(at, values=step.values))  # type: ignore[misc]
            notes += found.notes
            sample = Sample(architecture=text, ms=found.ms, pairs=found.timing.pairs, spread_ms=found.spread_ms)
            if log:
                if isinstance(network, bytes):
                    sample = replace(sample, shares=_profile(architecture, network, spec))
                log.add(sample)
        except EvaluationError as error:
            notes.append(f"Not measured: {text}. {error}")
            continue
        known[text] = sample
    return Calibration(reference=begun.reference, samples=tuple(known.values()), notes=_summarized(notes))


def fit_profile(
    samples: Sequence[Sample],
    *,
    name: str,
    device: Device,
    backend: str,
    resolution: Resolution,
    reference: Reference | None,
    base: DeviceProfile | None = None,
) -> DeviceProfile:
    """Return the profile that the samples make; with the profile of a similar device as `base`, adapt that."""
    note = ""
    if base is None:
        # ONNX Runtime blocks channels by this processor's vectors; of other devices the fit finds it out.
        is_here = device.differences(device_fingerprint(threads=device.threads)) == ()
        widths = (vector_width(),) if backend == _PROFILED_BACKEND and is_here else VECTOR_WIDTHS
        fit = fit_coefficients(samples, resolution=resolution, vector_widths=widths)
    else:
        fit = _adapt(base, samples)
        note = f"Adapted from {base.name} ({base.device.text}) with {len(samples)} measured networks."
    noise = np.array([(sample.spread_ms or 0.0) / sample.ms for sample in samples])
    low, high = prediction_interval(fit.log_error, len(samples), noise=noise)
    if base is not None:  # a few networks do not show what they do not have
        low, high = min(low, base.interval_log[0]), max(high, base.interval_log[1])
    method = "10-fold cross-validation" if len(samples) > 10 else "leave-one-out"
    return DeviceProfile(
        name=name,
        device=device,
        backend=backend,
        date=datetime.now(UTC).date().isoformat(),
        resolution=resolution,
        reference=reference,
        vector_width=fit.vector_width,
        coefficients_ms=fit.coefficients_ms,
        interval_log=(low, high),
        held_out=describe_errors(fit.predicted_ms, np.array([sample.ms for sample in samples]), method=method),
        samples=tuple(samples),
        note=note,
    )


def _adapt(base: DeviceProfile, samples: Sequence[Sample]) -> Fit:
    """Fit a factor per sort of work: each kind of layer has one for its fixed cost and one for its other work."""
    if len(samples) < MIN_ADAPTED:
        raise EvaluationError(
            f"Adapting a profile needs at least {MIN_ADAPTED} measured networks of the other device; "
            f"got {len(samples)}."
        )
    lowered = (lower(parse_architecture(one.architecture), resolution=base.resolution) for one in samples)
    sorts = dict.fromkeys(map(sort_of_work, base.coefficients_ms), 0.0)  # also those that no sample has
    ms = [sample.ms for sample in samples]
    factors, predicted = scale_parts([{**sorts, **predict_parts(base, layers)} for layers in lowered], ms)
    return Fit(
        vector_width=base.vector_width,
        coefficients_ms={term: cost * factors[sort_of_work(term)] for term, cost in base.coefficients_ms.items()},
        predicted_ms=predicted,
        log_error=log_error(predicted, np.array(ms)),
    )


def check_budget(budget: int, *, is_adapted: bool) -> None:
    """Refuse a calibration that could not be fitted, before anything is measured."""
    least = MIN_ADAPTED if is_adapted else MIN_SAMPLES
    if budget < least:
        raise EvaluationError(
            f"A budget of {budget} networks is too small to fit: at least {least}. 20 predict to about 3 %, 50 to "
            "about 2 %; with a profile of a similar device (--from) 5 to 10 are enough."
        )


def _profile(architecture: Architecture, model: bytes, spec: MeasureSpec) -> dict[str, float]:
    """Return the shares of the kinds of layers in the network's time."""
    layers, rng = lower(architecture, resolution=spec.resolution), np.random.default_rng(spec.seed)
    shares = profile_layers(layers, model, rng=rng, threads=spec.options.threads)
    by_kind: defaultdict[str, float] = defaultdict(float)
    for name, kind in layer_kinds(layers).items():
        by_kind[kind] += shares[name]
    return {kind: share for kind, share in by_kind.items() if share > 0}


def _summarized(notes: Sequence[str]) -> tuple[str, ...]:
    """Return each sort of note once, an example with how many networks it is about; only figures differ in a sort."""
    sorts: dict[str, list[str]] = {}
    for note in notes:
        sorts.setdefault(re.sub(r"[\d.]+", "", note), []).append(note)
    return tuple(same[0] if len(same) == 1 else f"Of {len(same)} networks: {same[0]}" for same in sorts.values())


def profile_layers(
    layers: Sequence[Layer], model: bytes, *, rng: np.random.Generator, threads: int = 1
) -> dict[str, float]:
    """Return by layer name its share of the network's kernel time; a fused layer's time is its host's.

    Shares, not times: the profiler slows what it watches and the clock drifts meanwhile, by up to a tenth; the
    network's latency is known better from pairs.
    """
    with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
        with computing():
            session = build_session(model, threads=threads, profile_prefix=Path(folder) / "profile")
        inputs = {node.name: draw_input(node, rng) for node in session.get_inputs()}
        try:
            with measuring():
                for _ in range(_WARM_UP_RUNS + _RUNS):
                    session.run(None, inputs)
            file = session.end_profiling()
        except Exception as error:  # ONNX Runtime's errors share no base class
            raise EvaluationError(f"ONNX Runtime could not profile the network: {first_line(error)}") from error
        events = json.loads(Path(file).read_text(encoding="utf-8"))
    times: defaultdict[str, list[float]] = defaultdict(list)  # microseconds by node, in the order of execution
    for event in events:
        if event.get("cat") == "Node" and str(event["name"]).endswith(_KERNEL):
            times[str(event["name"]).removesuffix(_KERNEL)].append(float(event["dur"]))
    medians = {name: statistics.median(runs[_WARM_UP_RUNS:] or runs) for name, runs in times.items()}
    return share_among_layers(layers, medians)


def share_among_layers(layers: Sequence[Layer], times: Mapping[str, float]) -> dict[str, float]:
    """Return kernel times, given by ONNX Runtime's names in the order of execution, as shares of the layers.

    A reordering of the layout belongs to the layer that it was made for: before the node that needed the plain
    layout, after it to go back. A convolution that an activation or an addition was fused into carries the name
    of what it absorbed: its time is the convolution's.
    """
    known = {layer.name: layer for layer in layers}
    found: dict[str, float] = defaultdict(float)
    waiting, last = 0.0, None
    for node, time in times.items():
        name = node
        for suffix in _SUFFIXES:
            name = name.removesuffix(suffix)
        if name in known:
            found[name] += time + waiting
            waiting, last = 0.0, name
        elif node.startswith("ReorderOutput") or last is None:
            waiting += time
        else:
            found[last] += time
    for layer in layers:
        if layer.op in ("activation", "residual", *BRANCH_OPS) and layer.name in found:
            hosts = (one for one in layer.inputs if one in known and known[one].op == "conv" and one not in found)
            host = next(hosts, None)
            if host is not None:
                found[host] = found.pop(layer.name)
    total = sum(found.values())
    if not total > 0:
        raise EvaluationError("ONNX Runtime's profile names none of the network's layers: profile an exported network.")
    return {layer.name: found.get(layer.name, 0.0) / total for layer in layers}
