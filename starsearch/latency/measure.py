"""`measure`: a network's milliseconds as it is deployed on this machine, in pairs with a reference."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from starsearch.export.onnx import build_onnx
from starsearch.export.padding import pad_weights
from starsearch.families.family import Architecture
from starsearch.families.layers import pad_channels
from starsearch.latency.backends import Backend, BackendOptions, ComputeUnits, Network, open_backend
from starsearch.latency.backends.networks import as_layers, as_module
from starsearch.latency.caveats import find_caveats
from starsearch.latency.device import Device, vector_width
from starsearch.latency.lock import computing
from starsearch.latency.padded import PaddingChoice, choose_padding
from starsearch.latency.paired import DEFAULT_LIMITS, Copies, PairLimits, Timer, measure_paired
from starsearch.latency.reference import Reference, calibrate_reference, reference_timer
from starsearch.latency.terms import has_unblocked_channels
from starsearch.measurement import Measurement
from starsearch.progress import Progress, scaled

_PADDED_BACKEND = "onnxruntime-cpu"
# Of the progress, where a network's channels may be padded: it is timed against the padded one first.
_CHOICE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureSpec:
    """How a latency is measured.

    Attributes:
        backend: what runs the network, a name of `starsearch.latency.backends.BACKENDS`.
        threads: of the processor that the network uses.
        compute_units: that Core ML may use.
        development_team: Apple's id of yours, with which Xcode signs the app that times networks on an iPhone.
        resolution: of the image in pixels; an ONNX file has its own.
        num_classes: outputs of an architecture's head.
        limits: when enough pairs have been timed.
        seed: of random weights, of the image's values and of the order within the pairs.
        reference: the scale; None calibrates it now.
    """

    backend: str = "onnxruntime-cpu"
    threads: int = 1
    compute_units: ComputeUnits = "all"
    development_team: str = ""
    resolution: int = 224
    num_classes: int = 1000
    limits: PairLimits = DEFAULT_LIMITS
    seed: int = 0
    reference: Reference | None = None

    @classmethod
    def like(cls, backend: str, device: Device, **changes: Any) -> Self:
        """How `backend` measured when it described `device` (its threads and compute units), with `changes`.

        Args:
            backend: its name, as a profile has it.
            device: as the profile or a reference has it.
            changes: other attributes, such as the resolution and the reference.
        """
        options = BackendOptions.of_device(device)
        known = {"backend": backend, "threads": options.threads, "compute_units": options.compute_units}
        return cls(**{**known, **changes})

    def open_backend(self) -> Backend:
        """The backend with these options.

        Raises:
            BackendError: no backend has the name, or this machine lacks something that it needs.
        """
        options = BackendOptions(
            threads=self.threads, compute_units=self.compute_units, development_team=self.development_team
        )
        return open_backend(self.backend, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A measured latency, batch 1; never to be taken for a predicted one.

    The errors are those of the ratio on the reference's scale. The scale's own error is left out: it is the same for
    all that is measured with this reference.

    Attributes:
        ms: median ratio to the reference network × its calibrated time.
        spread_ms: standard error of `ms`.
        interval_ms: of `ms`, 95 %.
        ratio: to the reference network's time.
        pairs: how many were timed.
        outliers: pairs far from the median.
        is_closed: whether the interval became as narrow as was wanted.
        reference: the scale.
        device: that was measured on.
        notes: what a reader should know (a busy or throttling machine), a sentence or two each.
    """

    ms: float
    spread_ms: float
    interval_ms: tuple[float, float]
    ratio: float
    pairs: int
    outliers: int
    is_closed: bool
    reference: Reference
    device: Device
    notes: tuple[str, ...] = ()

    def as_measurement(self, name: str) -> Measurement:
        """Return it as one of an evaluation's measurements."""
        return Measurement(name=name, value=self.ms, runs=self.pairs, spread=self.spread_ms, device=self.device.text)


def measure(model: Network, spec: MeasureSpec | None = None) -> Generator[Progress, None, Measured]:
    """Measure `model` as it is deployed, alone on this machine; yields after each stretch of runs.

    On ONNX Runtime's processor backend an architecture or a StarNet that leaves the blocked layout is timed with padded
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
    if spec.reference is not None:
        spec.reference.check_device(backend.describe_device())
    rng = np.random.default_rng(spec.seed)
    deployed, choice = yield from scaled(_as_deployed(model, spec, rng), 0.0, _CHOICE_SHARE)
    start = 0.0 if choice is None else _CHOICE_SHARE

    def make() -> Timer:
        with computing():
            return backend.make_timer(deployed, resolution=spec.resolution, rng=rng)

    candidate = Copies(make, backend.copies)
    if spec.reference is None:  # only now: who named a network that cannot run need not wait to be told
        yield Progress(fraction=start, stage="calibration")
    reference = spec.reference or calibrate_reference(backend=backend)
    steps = _measure_ready(candidate, backend, reference=reference, rng=rng, limits=spec.limits)
    measured = yield from scaled(steps, start, 1.0)
    return replace(measured, notes=(choice.text, *measured.notes)) if choice else measured


def _as_deployed(
    model: Network, spec: MeasureSpec, rng: np.random.Generator
) -> Generator[Progress, None, tuple[Network, PaddingChoice | None]]:
    """Return the network in the form in which it is exported, and what timing said of padding it (None: not asked).

    Other backends than ONNX Runtime on the processor have no blocked layout that a network could leave.
    """
    if isinstance(model, bytes):
        return model, None
    if spec.backend != _PADDED_BACKEND:
        if not isinstance(model, Architecture):
            return model, None
        with computing():
            module = as_module(model, resolution=spec.resolution, rng=rng, num_classes=spec.num_classes)
        return module, None
    if not isinstance(model, Architecture):
        from starsearch.families.network import Network

        if not isinstance(model, Network):
            return model, None
    with computing():
        layers, weights = as_layers(model, resolution=spec.resolution, rng=rng, num_classes=spec.num_classes)
    choice = None
    if has_unblocked_channels(layers):
        multiple = vector_width()
        choice = yield from choose_padding(layers, weights, multiple=multiple, rng=rng, threads=spec.threads)
    with computing():
        if choice is None or choice.multiple is None:
            return build_onnx(layers, weights), choice
        padded = pad_channels(layers, multiple=choice.multiple)
        return build_onnx(padded, pad_weights(layers, padded, weights)), choice


def _measure_ready(
    candidate: Timer, backend: Backend, *, reference: Reference, rng: np.random.Generator, limits: PairLimits
) -> Generator[Progress, None, Measured]:
    """Time the pairs and put their ratio on the reference's scale."""
    paired = yield from measure_paired(candidate, reference_timer(backend), rng=rng, limits=limits)
    device = backend.describe_device()
    return Measured(
        ms=paired.ratio * reference.ms,
        spread_ms=paired.spread * reference.ms,
        interval_ms=(paired.interval.low * reference.ms, paired.interval.high * reference.ms),
        ratio=paired.ratio,
        pairs=paired.pairs,
        outliers=paired.outliers,
        is_closed=paired.is_closed,
        reference=reference,
        device=device,
        notes=find_caveats(paired, limits=limits, reference_ms=reference.ms, device=device),
    )
