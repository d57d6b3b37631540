"""Profiles of the devices in the paper's tables: a few figures each, so extrapolations, and labelled as such.

python -m starsearch.latency.published          writes them to starsearch/profiles/
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from starsearch.architecture import (
    ACT_TYPES,
    ACTIVATIONS,
    ANCHORS,
    OPS,
    Architecture,
    count_macs,
    format_architecture,
    parse_architecture,
)
from starsearch.latency.accuracy import describe_errors, log_error, prediction_interval
from starsearch.latency.device import Device
from starsearch.latency.fitting import solve_non_negative
from starsearch.latency.profile import DeviceProfile, FloatVector, Sample
from starsearch.latency.profile_file import save_profile
from starsearch.latency.terms import NETWORK_FIXED, describe_network
from starsearch.resources import shipped_folder

_RESOLUTION = 224
_DATE = "2024-06-17"  # of the conference
_DEVICES: Mapping[str, tuple[str, str]] = {
    "iphone": ("Apple iPhone 12 (printed as iPhone 13, too)", "Core ML"),
    "iphone14": ("Apple iPhone 14", "Core ML"),
    "p100": ("NVIDIA Tesla P100", "onnxruntime 1.13.1 CUDA"),
    "e5-2680v4": ("Intel Xeon E5-2680 v4", "onnxruntime 1.13.1"),
}
_GMACS, _LAYERS, _STAR = "gmacs", "layers", "star"
# Besides arithmetic: what a network costs at all, what each of its layers does, what stars cost and sums do not.
_EXTRAS = (NETWORK_FIXED, _LAYERS, _STAR)
_KERNEL_SIZES = (3, 5, 7)
_EMBED_DIMS = (24, 30)  # the latter has widths that are no multiple of four


def build_published_profiles() -> Iterator[DeviceProfile]:
    """One profile a device of "Rewrite the Stars", tables 8, 14 and 19."""
    for name in _DEVICES:
        yield _build(name, _read_samples(name))


def _read_samples(device: str) -> list[Sample]:
    path = shipped_folder("profiles") / "published" / "latency_ms.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(line for line in file if not line.startswith("#")))
    return [
        Sample(architecture=format_architecture(_find(row["model"], row["op"])), ms=float(row["ms"]))
        for row in rows
        if row["device"] == device
    ]


def _find(model: str, op: str) -> Architecture:

    anchor = ANCHORS[model]
    return replace(anchor, ops=(op,) * anchor.num_stages)


def _build(name: str, samples: Sequence[Sample]) -> DeviceProfile:

    ms = np.array([sample.ms for sample in samples])
    coarse = [_coarse_terms(parse_architecture(sample.architecture)) for sample in samples]
    chosen, predicted = min(
        ((terms, _leave_one_out(_columns(coarse, terms), ms)) for terms in _choices(len(samples))),
        key=lambda choice: float(np.mean(np.abs(choice[1] / ms - 1))),
    )
    coefficients = dict(zip(chosen, _solve(_columns(coarse, chosen), ms).tolist(), strict=True))
    errors = describe_errors(predicted, ms, method="leave-one-out")
    processor, runtime = _DEVICES[name]
    return DeviceProfile(
        name=name,
        device=Device(
            processor=processor,
            cores=None,
            threads=None,
            runtime=runtime,
            optimization="unknown",
            governor=None,
            system=None,
        ),
        backend="published",
        date=_DATE,
        resolution=_RESOLUTION,
        reference=None,
        vector_width=1,
        coefficients_ms=_refine(coefficients),
        interval_log=prediction_interval(log_error(predicted, ms), len(ms)),
        held_out=errors,
        samples=tuple(samples),
        note=(
            f"An extrapolation from {len(samples)} published figures of one family (Rewrite the Stars, tables 8, 14 "
            f"and 19), by {_in_words(chosen)}; leave-one-out error {errors.mape_percent:.1f} %. It cannot rank kernels "
            "or activations, nor widths a device likes or dislikes: measure before you decide."
        ),
    )


def _choices(samples: int) -> Iterator[tuple[str, ...]]:
    most = 2 if samples < 6 else len(_EXTRAS)
    for number in range(most):
        for extras in itertools.combinations(_EXTRAS, number):
            yield (_GMACS, *extras)


def _coarse_terms(architecture: Architecture) -> dict[str, float]:
    described = describe_network(architecture, resolution=_RESOLUTION, vector_width=1)
    return {
        _GMACS: count_macs(architecture, resolution=_RESOLUTION) / 1e9,
        NETWORK_FIXED: 1.0,
        _LAYERS: sum(terms.get(f"{kind}.fixed", 0.0) for kind, terms in described.by_kind.items()),
        _STAR: described.total.get("star.mbytes", 0.0),
    }


def _columns(coarse: Sequence[Mapping[str, float]], terms: Sequence[str]) -> FloatVector:
    return np.array([[network[term] for term in terms] for network in coarse])


def _solve(columns: FloatVector, ms: FloatVector) -> FloatVector:
    return solve_non_negative(columns / ms[:, None], np.ones(len(ms)))


def _leave_one_out(columns: FloatVector, ms: FloatVector) -> FloatVector:
    rows = np.arange(len(ms))
    return np.array([columns[row] @ _solve(columns[rows != row], ms[rows != row]) for row in rows])


def _refine(coarse: Mapping[str, float]) -> dict[str, float]:
    """Coefficients by the layers' own terms, so that the sum over layers is the coarse model's figure."""
    mmac = coarse[_GMACS] / 1e3
    coefficients = {NETWORK_FIXED: coarse.get(NETWORK_FIXED, 0.0)}
    for kind, terms in _all_kinds().items():
        if f"{kind}.mmacs" in terms:
            coefficients[f"{kind}.mmacs"] = mmac
        if f"{kind}.fixed" in terms:
            coefficients[f"{kind}.fixed"] = coarse.get(_LAYERS, 0.0)
    coefficients["star.mbytes"] = coarse.get(_STAR, 0.0)
    coefficients["pool.mbytes"] = 0.0
    coefficients["linear.weight_mbytes"] = mmac / 4  # a multiply-add a weight of four bytes
    return coefficients


def _all_kinds() -> dict[str, Mapping[str, float]]:
    kinds: dict[str, Mapping[str, float]] = {}
    for embed_dim, kernel_size, act_type, activation, op in itertools.product(
        _EMBED_DIMS, _KERNEL_SIZES, ACT_TYPES, ACTIVATIONS, OPS
    ):
        network = Architecture.of(
            embed_dim=embed_dim, kernel_size=kernel_size, act_type=act_type, activation=activation, ops=op
        )
        kinds |= describe_network(network, resolution=_RESOLUTION, vector_width=1).by_kind
    return kinds


def _in_words(terms: Sequence[str]) -> str:
    words = {
        _GMACS: "MACs",
        NETWORK_FIXED: "a fixed cost",
        _LAYERS: "a cost a layer",
        _STAR: "the bytes of stars",
    }
    return ", ".join(words[term] for term in terms)


def write_published_profiles(folder: Path) -> None:
    """Write all of them into a folder."""
    for profile in build_published_profiles():
        save_profile(profile, folder / f"{profile.name}.yaml")


if __name__ == "__main__":
    write_published_profiles(shipped_folder("profiles"))
