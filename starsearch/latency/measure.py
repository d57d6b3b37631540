"""`measure`: a network's milliseconds as it is deployed on this machine, in pairs with a reference."""

from __future__ import annotations

import statistics
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from starsearch.export.onnx import build_onnx
from starsearch.export.weights import pad_weights
from starsearch.families.family import Architecture
from starsearch.families.layers import pad_channels
from starsearch.families.timm import TimmArchitecture
from starsearch.latency.backends.backend import Backend, BackendOptions, Network, open_backend
from starsearch.latency.backends.networks import as_layers, as_module
from starsearch.latency.device import Device, vector_width
from starsearch.latency.lock import computing
from starsearch.latency.padded import PaddingChoice, choose_padding, is_unblocked
from starsearch.latency.paired import DEFAULT_LIMITS, Copies, PairedTiming, PairLimits, Timer, measure_paired
from starsearch.latency.reference import Reference, calibrate_reference, reference_timer
from starsearch.measurement import Measurement
from starsearch.progress import Progress, scaled
from starsearch.resolution import Resolution

_PADDED_BACKEND = "onnxruntime-cpu"
# Share of the progress for choosing whether channels are padded, where a network is timed against the padded one first.
_CHOICE_SHARE = 0.5
# A plain median drifts by 5–7 % within minutes on a quiet machine; ratios do not mind. What is reported lies well
# beyond.
_DRIFT = 0.15
_OFF_SCALE = 0.25
_OUTLIERS = 0.1
_LEAST_READINGS = 3  # of the reference in each third of the time; fewer say too little


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec:
    """How a latency is measured."""

    backend: str = _PADDED_BACKEND  # what runs the network, a name of `BACKENDS`
    options: BackendOptions = field(default_factory=BackendOptions)  # what the backend is opened with
    resolution: Resolution = 224  # of the image; an ONNX file has its own
    num_classes: int = 1000  # outputs of an architecture's head
    limits: PairLimits = DEFAULT_LIMITS  # when enough pairs have been timed
    seed: int = 0  # draws random weights, the image's values and the order within the pairs
    reference: Reference | None = None  # the scale; None calibrates it now

    @classmethod
    def like(cls, backend: str, device: Device, **changes: Any) -> Self:
        """Return how `backend` measured when it described `device` (its threads and compute units), with `changes`."""
        return cls(backend=backend, options=BackendOptions.of_device(device), **changes)

    def open_backend(self) -> Backend:
        """Return the backend with these options; raises `BackendError` as `open_backend` does."""
        return open_backend(self.backend, self.options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """A measured latency, batch 1; never to be taken for a predicted one.

    Its errors are those of the ratio on the reference's scale. The scale's own error is left out: it is the same for
    all that is measured with this reference.
    """

    timing: PairedTiming  # the ratio to the reference network's time, and how well it is known
    reference: Reference  # the scale
    device: Device
    notes: tuple[str, ...] = ()  # what a reader should know (a busy or throttling machine), a sentence or two each

    @property
    def ms(self) -> float:
        """The median ratio × the reference network's calibrated time."""
        return self.timing.ratio * self.reference.ms

    @property
    def spread_ms(self) -> float:
        """The standard error of `ms`."""
        return self.timing.spread * self.reference.ms

    def as_measurement(self, name: str) -> Measurement:
        """Return it as one of an evaluation's measurements."""
        return Measurement(
            name=name, value=self.ms, runs=self.timing.pairs, spread=self.spread_ms, device=self.device.text
        )


def measure(model: Network, spec: MeasureSpec | None = None) -> Generator[Progress, None, Latency]:
    """Measure `model` as it is deployed, alone on this machine; yield after each stretch of runs.

    On ONNX Runtime's processor backend a network of ours that leaves the blocked layout is timed with padded
    channels first, and measured padded where that is faster. An ONNX file is measured as it is. An interval that does
    not close within the limits is no error: what was measured is returned, with a note.

    Args:
        model: an architecture (random weights), an ONNX file's bytes with inputs of fixed shape, or a module.
        spec: how; by default ONNX Runtime, one thread.

    Raises:
        BackendError: the backend is not known, cannot run here, or takes no such model.
        EvaluationError: the backend refuses the network or cannot run it, an input is not fixed, a run took no time,
            or the reference was calibrated on another device.
    """
    spec = spec or MeasureSpec()
    backend = spec.open_backend()
    device = backend.describe_device()
    if spec.reference is not None:
        spec.reference.check_device(device)
    rng = np.random.default_rng(spec.seed)
    deployed, choice = yield from scaled(_as_deployed(model, spec, rng), 0.0, _CHOICE_SHARE)
    start = 0.0 if choice is None else _CHOICE_SHARE

    def make() -> Timer:
        with computing():
            return backend.make_timer(deployed, resolution=spec.resolution, rng=rng)

    candidate = Copies(make, backend.copies)
    if spec.reference is None:  # only now: a network that cannot run is reported without this wait
        yield Progress(fraction=start, stage="calibration")
    reference = spec.reference or calibrate_reference(backend)
    steps = measure_paired(candidate, reference_timer(backend), rng=rng, limits=spec.limits)
    timing = yield from scaled(steps, start, 1.0)
    caveats = find_caveats(timing, limits=spec.limits, calibrated_ms=reference.ms, device=device)
    notes = (*([choice.text] if choice else []), *caveats)
    return Latency(timing=timing, reference=reference, device=device, notes=notes)


def _as_deployed(
    model: Network, spec: MeasureSpec, rng: np.random.Generator
) -> Generator[Progress, None, tuple[Network, PaddingChoice | None]]:
    """Return the network in the form in which it is exported, and the choice about padding (None: nothing to choose).

    Other backends than ONNX Runtime on the processor have no blocked layout that a network could leave.
    """
    if spec.backend != _PADDED_BACKEND or isinstance(model, TimmArchitecture):
        if not isinstance(model, Architecture):
            return model, None
        with computing():
            module = as_module(model, resolution=spec.resolution, rng=rng, num_classes=spec.num_classes)
        return module, None
    with computing():
        known = as_layers(model, resolution=spec.resolution, rng=rng, num_classes=spec.num_classes)
    if known is None:
        return model, None
    layers, weights = known
    choice = None
    if any(map(is_unblocked, layers)):
        choice = yield from choose_padding(
            layers, weights, multiple=vector_width(), rng=rng, threads=spec.options.threads
        )
    with computing():
        if choice is None or choice.multiple is None:
            return build_onnx(layers, weights), choice
        padded = pad_channels(layers, multiple=choice.multiple)
        return build_onnx(padded, pad_weights(layers, padded, weights)), choice


def find_caveats(paired: PairedTiming, *, limits: PairLimits, calibrated_ms: float, device: Device) -> tuple[str, ...]:
    """Return what disturbed a measurement, a sentence or two each with what to do; empty where nothing did.

    `calibrated_ms` is the reference network's time when the scale was calibrated.
    """
    found = []
    half_width = (paired.interval.high - paired.interval.low) / (2 * paired.ratio)
    if not paired.is_closed and limits.half_width > 0:  # who asks for a number of pairs (a width of 0) gets that
        found.append(
            f"The 95 % interval is ±{100 * half_width:.1f} % after {paired.pairs} pairs, wider than the "
            f"±{100 * limits.half_width:.1f} % that was wanted: the machine is busy, or the network very small. Stop "
            "other programs that compute, or allow more pairs."
        )
    if paired.outliers > _OUTLIERS * paired.pairs:
        found.append(
            f"{paired.outliers} of {paired.pairs} pairs lie far from the median: something else ran in between. The "
            "median hardly follows them; measure again on a quieter machine if it matters."
        )
    third = len(paired.reference_ms) // 3
    if third >= _LEAST_READINGS:
        begin_ms, end_ms = (
            statistics.median(part) for part in (paired.reference_ms[:third], paired.reference_ms[-third:])
        )
        drift = end_ms / begin_ms - 1
        became, why, advice = "slower", "it throttles (heat, battery), or another program began", "let it cool down"
        if drift < 0:
            became, why, advice = "faster", "it was busy, or its clock low, in the beginning", "measure again"
        if abs(drift) > _DRIFT:
            found.append(
                f"The machine became {100 * abs(drift):.0f} % {became} while it was measured: {why}. The ratio to the "
                f"reference follows little of that; {advice} if it matters."
            )
    now_ms = statistics.median(paired.reference_ms)
    if abs(now_ms / calibrated_ms - 1) > _OFF_SCALE:
        is_slow = now_ms > calibrated_ms
        why = "throttled, on battery or busy now" if is_slow else "throttled or busy when it was calibrated"
        found.append(
            f"The reference network takes {now_ms:.3g} ms now, {calibrated_ms:.3g} ms when the scale was calibrated: "
            f"the machine is {why}. The latency is on the calibrated scale; calibrate again if that state has passed."
        )
    if device.threads is not None and device.cores is not None and device.threads > device.cores:
        found.append(
            f"{device.threads} threads share the {device.cores} cores that this process may use; use no more than "
            "these."
        )
    return tuple(found)
