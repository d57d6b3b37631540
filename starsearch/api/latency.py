"""Measuring one network on this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from starsearch.api.networks import NamedNetwork, find_network
from starsearch.errors import EvaluationError
from starsearch.progress import follow, ignore

if TYPE_CHECKING:
    from starsearch.latency import Measured, MeasureSpec
    from starsearch.latency.backends import Backend, Network
    from starsearch.progress import Progress


def measure_architecture(
    text: str,
    *,
    resolution: int | None = None,
    spec: MeasureSpec | None = None,
    watch: Callable[[Progress], None] = ignore,
) -> dict[str, Any]:
    """Latency of the network `text` names, in pairs with the reference network; architectures get random weights.

    With Core ML also which processor it runs the operations on ("placement"; None with other backends).

    Args:
        text: an architecture in any of its forms, FILE.onnx, or timm:NAME.
        resolution: of the image in pixels; by default a study's, a timm model's own, or 224. An ONNX file has its own.
        spec: how it is measured; its resolution and number of classes are not read.
        watch: told how far it is.

    Raises:
        ArchitectureError, SpecError, StudyError: the text names no architecture.
        BackendError: the backend is not known, cannot run here, or takes no such network.
        EvaluationError: the network cannot be read or timed.
    """
    from starsearch.latency import MeasureSpec, measure

    spec = spec or MeasureSpec()
    backend = spec.open_backend()  # what is missing is said before a network is built
    named = find_network(text, resolution=resolution)
    spec = replace(spec, resolution=named.resolution or spec.resolution, num_classes=named.num_classes)
    measured = follow(measure(named.network, spec), watch)
    placement, notes = _place(named.network, backend, spec)
    measured = replace(measured, notes=(*measured.notes, *notes))
    return {**_facts(named, spec, measured), "placement": placement}


def _place(network: Network, backend: Backend, spec: MeasureSpec) -> tuple[dict[str, Any] | None, tuple[str, ...]]:
    """Where the backend runs the operations (None where it cannot tell), and a note where it could on a later system.

    What was measured is not given up for it: an error is a note.
    """
    import numpy as np

    from starsearch.latency.backends import PlacingBackend

    if not isinstance(backend, PlacingBackend):
        return None, ()
    missing = backend.missing_for_placement()
    if missing is None:
        try:
            rng = np.random.default_rng(spec.seed)
            return asdict(backend.describe_placement(network, resolution=spec.resolution, rng=rng)), ()
        except EvaluationError as error:
            missing = str(error)
    return None, (f"Where the operations run is not known. {missing}",)


def _facts(named: NamedNetwork, spec: MeasureSpec, measured: Measured) -> dict[str, Any]:
    return {
        "architecture": named.text,
        "resolution": named.resolution,
        "backend": spec.backend,
        "latency_ms": measured.ms,
        "latency_ms_spread": measured.spread_ms,
        "latency_ms_interval": list(measured.interval_ms),
        "ratio": measured.ratio,
        "pairs": measured.pairs,
        "outliers": measured.outliers,
        "closed": measured.is_closed,
        "notes": list(measured.notes),
        "device": measured.device.text,
        "device_facts": asdict(measured.device),
        "reference_ms": measured.reference.ms,
        "macs": named.macs,
        "num_classes": named.num_classes,
    }
