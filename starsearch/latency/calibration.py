"""Calibrating a device: measure networks that tell its coefficients apart, keep each as it comes, fit."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np

from starsearch.errors import EvaluationError, SpecError
from starsearch.families.family import Architecture, lower
from starsearch.families.text import format_architecture
from starsearch.latency.accuracy import describe_errors, log_error, prediction_interval
from starsearch.latency.adaptation import adapt_coefficients
from starsearch.latency.backends import Network
from starsearch.latency.backends.networks import as_onnx
from starsearch.latency.device import Device, device_fingerprint, vector_width
from starsearch.latency.fitting import VECTOR_WIDTHS, fit_coefficients
from starsearch.latency.lock import computing
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.latency.op_profile import profile_layers
from starsearch.latency.paired import PairLimits
from starsearch.latency.profile import DeviceProfile, FloatVector, HeldOut, Sample
from starsearch.latency.reference import Reference, calibrate_reference
from starsearch.latency.selection import choose_informative
from starsearch.latency.terms import layer_terms
from starsearch.progress import Progress

# Wider than a single measurement's: a fit averages over networks.
LIMITS = PairLimits(min_pairs=10, max_pairs=20, half_width=0.02)
_PROFILED_BACKEND = "onnxruntime-cpu"
_POOL = 1000  # networks of a space to choose from
_RANDOM_EVERY = 3  # the rest are chosen: what is drawn as the space is shows how well the space is predicted


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was measured for a profile.

    Attributes:
        reference: the scale.
        samples: in the order of measurement.
        notes: what a reader should know of how they were measured, a sentence or two each.
    """

    reference: Reference
    samples: tuple[Sample, ...]
    notes: tuple[str, ...] = ()


class CalibrationLog:
    """Samples kept in a file from the moment they are measured, so that an interrupted calibration goes on.

    Args:
        path: JSON lines; the first says how they were measured.
        resolution: of the networks, in pixels.
    """

    def __init__(self, path: Path, *, resolution: int) -> None:
        self._path, self._resolution = path, resolution

    def read(self) -> Calibration | None:
        """What an interrupted calibration left; None where there is none.

        Raises:
            SpecError: the file is no such log, or of networks of another resolution.
        """
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise self._not_a_log(error) from error
        try:
            first = json.loads(lines[0])
            reference, resolution = Reference.from_dict(first["reference"]), first["resolution"]
            samples = tuple(Sample(**sample) for sample in _complete_lines(lines[1:]))
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise self._not_a_log(error) from error
        if resolution != self._resolution:
            raise SpecError(
                f"{self._path} holds an interrupted calibration at {resolution} px; now networks are measured at "
                f"{self._resolution} px. Go on with the space it was begun with, or delete the file."
            )
        return Calibration(reference=reference, samples=samples)

    def begin(self, reference: Reference) -> None:
        """Start a file with this scale.

        Raises:
            SpecError: it cannot be written.
        """
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            first = {"reference": asdict(reference), "resolution": self._resolution}
            self._path.write_text(json.dumps(first) + "\n", encoding="utf-8")
        except OSError as error:
            raise self._not_written(error) from error

    def add(self, sample: Sample) -> None:
        """Keep one more.

        Raises:
            SpecError: it cannot be written.
        """
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(sample)) + "\n")
        except OSError as error:
            raise self._not_written(error) from error

    def remove(self) -> None:
        """The calibration is complete."""
        self._path.unlink(missing_ok=True)

    def _not_a_log(self, error: Exception) -> SpecError:
        return SpecError(f"{self._path} is not what an interrupted calibration leaves ({error}); move it away.")

    def _not_written(self, error: OSError) -> SpecError:
        return SpecError(f"What is measured cannot be kept in {self._path}: {error.strerror}.")


def _complete_lines(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The lines as JSON, without a last one that a killed process has not finished."""
    for number, line in enumerate(lines, start=1):
        try:
            yield json.loads(line)
        except ValueError:
            if number < len(lines):
                raise


def choose_networks(
    candidates: Iterable[Architecture], count: int, *, resolution: int, vector_width: int
) -> list[Architecture]:
    """Networks to calibrate with: two of three the most informative of a pool, the third as it was drawn.

    Any beginning of the list is the choice of a smaller count. What is drawn at random shows how well the space is
    predicted, which its most unusual networks alone do not.

    Args:
        candidates: drawn from a space; the first thousand are the pool.
        count: how many; fewer come where the pool has fewer.
        resolution: they are measured at.
        vector_width: of the device, as far as it is known.
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
    """Measure each on this machine; yields progress. One that cannot be measured is left out, with a note.

    Args:
        architectures: what is measured, in this order.
        spec: how; where it has no reference, the log's or a new one is the scale.
        log: keeps each sample at once, with its profile; what it holds is not measured again but counts, whether it
            is among `architectures` or not. None keeps nothing.
        deployed: whether channels are padded where that is faster. A fit is of the layers that an architecture names,
            so what it is fitted to is measured as it is.

    Raises:
        BackendError: the backend cannot run here.
        EvaluationError: the log's scale is another device's.
        SpecError: the log cannot be read or written.
    """
    backend = spec.open_backend()
    begun = log.read() if log else None
    if begun is None:
        yield Progress(fraction=0.0, stage="reference network")
        begun = Calibration(reference=spec.reference or calibrate_reference(backend=backend), samples=())
        if log:
            log.begin(begun.reference)
    begun.reference.check_device(backend.describe_device())
    spec = replace(spec, reference=begun.reference)
    known = {sample.architecture: sample for sample in begun.samples}
    notes: list[str] = []
    for index, architecture in enumerate(architectures):
        if format_architecture(architecture) in known:
            continue
        progress = Progress(fraction=index / len(architectures), stage=f"network {index + 1}/{len(architectures)}")
        yield progress
        try:
            network = architecture if deployed else _as_it_is(architecture, spec)
            sample = yield from _measure_one(architecture, network, spec, progress, notes)
            if log:
                sample = replace(sample, shares=_profile(architecture, spec))
                log.add(sample)
        except EvaluationError as error:
            notes.append(f"Not measured: {format_architecture(architecture)}. {error}")
            continue
        known[sample.architecture] = sample
    return Calibration(reference=begun.reference, samples=tuple(known.values()), notes=_in_words(notes))


def _as_it_is(architecture: Architecture, spec: MeasureSpec) -> Network:
    """Return the network in the form in which `measure` pads nothing."""
    if spec.backend != _PROFILED_BACKEND:
        return architecture
    with computing():
        return as_onnx(architecture, resolution=spec.resolution, rng=np.random.default_rng(spec.seed))


def _measure_one(
    architecture: Architecture, network: Network, spec: MeasureSpec, progress: Progress, notes: list[str]
) -> Generator[Progress, None, Sample]:
    steps = measure(network, spec)
    while True:
        try:
            pairs = next(steps).values
        except StopIteration as stop:
            measured = stop.value
            break
        yield replace(progress, values=pairs)
    notes += measured.notes
    return Sample(
        architecture=format_architecture(architecture),
        ms=measured.ms,
        pairs=measured.pairs,
        spread_ms=measured.spread_ms,
    )


def _in_words(notes: Sequence[str]) -> tuple[str, ...]:
    """Each sort of note once, an example with how many networks it was said of; they differ in their figures only."""
    sorts: dict[str, list[str]] = {}
    for note in notes:
        sorts.setdefault(re.sub(r"[\d.]+", "", note), []).append(note)
    return tuple(same[0] if len(same) == 1 else f"Of {len(same)} networks: {same[0]}" for same in sorts.values())


def _profile(architecture: Architecture, spec: MeasureSpec) -> dict[str, float]:
    """The shares of the kinds of layers in the network's time; none where the backend has no profiler."""
    if spec.backend != _PROFILED_BACKEND:
        return {}
    from starsearch.export.onnx import build_onnx
    from starsearch.export.weights import random_weights

    rng = np.random.default_rng(spec.seed)
    layers = lower(architecture, resolution=spec.resolution)
    shares = profile_layers(layers, build_onnx(layers, random_weights(layers, rng)), rng=rng, threads=spec.threads)
    by_kind: defaultdict[str, float] = defaultdict(float)
    for described in layer_terms(layers, vector_width=1):
        by_kind[described.kind] += shares[described.layer]
    return {kind: float(share) for kind, share in by_kind.items() if share > 0}


def fit_profile(
    samples: Sequence[Sample], *, name: str, device: Device, backend: str, resolution: int, reference: Reference | None
) -> DeviceProfile:
    """The profile that the samples make.

    Raises:
        EvaluationError: too few samples.
    """
    # ONNX Runtime blocks channels by this processor's vectors; of other devices the fit finds it out.
    is_here = device.differences(device_fingerprint(threads=device.threads)) == ()
    widths = (vector_width(),) if backend == _PROFILED_BACKEND and is_here else VECTOR_WIDTHS
    fit = fit_coefficients(samples, resolution=resolution, vector_widths=widths)
    measured = np.array([sample.ms for sample in samples])
    return DeviceProfile(
        name=name,
        device=device,
        backend=backend,
        date=_today(),
        resolution=resolution,
        reference=reference,
        vector_width=fit.vector_width,
        coefficients_ms=fit.coefficients_ms,
        interval_log=prediction_interval(fit.log_error, len(samples), noise=_noise(samples)),
        held_out=_held_out(fit.predicted_ms, measured),
        samples=tuple(samples),
    )


def adapt_profile(
    base: DeviceProfile,
    samples: Sequence[Sample],
    *,
    name: str,
    device: Device,
    backend: str,
    reference: Reference | None,
) -> DeviceProfile:
    """A profile of the samples' device, from a profile of a similar one.

    Its interval is no narrower than the base's: a few networks do not show what they do not have.

    Raises:
        EvaluationError: too few samples, or one with a layer the base has no term for.
    """
    adapted = adapt_coefficients(base, samples)
    measured = np.array([sample.ms for sample in samples])
    error = log_error(adapted.predicted_ms, measured)
    low, high = prediction_interval(error, len(samples), noise=_noise(samples))
    return DeviceProfile(
        name=name,
        device=device,
        backend=backend,
        date=_today(),
        resolution=base.resolution,
        reference=reference,
        vector_width=base.vector_width,
        coefficients_ms=adapted.coefficients_ms,
        interval_log=(min(low, base.interval_log[0]), max(high, base.interval_log[1])),
        held_out=_held_out(adapted.predicted_ms, measured),
        samples=tuple(samples),
        note=f"Adapted from {base.name} ({base.device.text}) with {len(samples)} measured networks.",
    )


def _noise(samples: Sequence[Sample]) -> FloatVector:
    """(n,): relative standard errors of the measurements; 0 where they are not known."""
    return np.array([(sample.spread_ms or 0.0) / sample.ms for sample in samples])


def check_budget(budget: int, *, least: int) -> None:
    """Refuse a calibration that could not be fitted before anything is measured.

    Raises:
        EvaluationError: the budget is below the least.
    """
    if budget < least:
        raise EvaluationError(
            f"A budget of {budget} networks is too small to fit: at least {least}. 20 predict to about 3 %, 50 to "
            "about 2 %; with a profile of a similar device (--from) 5 to 10 are enough."
        )


def _held_out(predicted_ms: FloatVector, measured_ms: FloatVector) -> HeldOut:
    method = "10-fold cross-validation" if len(measured_ms) > 10 else "leave-one-out"
    return describe_errors(predicted_ms, measured_ms, method=method)


def _today() -> str:
    return datetime.now(UTC).date().isoformat()
