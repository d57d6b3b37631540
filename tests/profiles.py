"""Made-up device profiles, so that no test has to calibrate a device."""

from starsearch.families.family import Architecture, lower, presets
from starsearch.latency.device import Device, device_fingerprint
from starsearch.latency.prediction.imported import Sample
from starsearch.latency.prediction.profile import DeviceProfile, HeldOut
from starsearch.latency.prediction.terms import NetworkTerms
from starsearch.latency.reference import Reference

_RESOLUTION = 64
# Between them they have every kind of layer.
_NETWORKS = [
    presets()["starnet_s1"],
    *(
        Architecture.of(ops=op, activation=placement, kernel_size=size)
        for op in ("star", "sum")
        for placement in ("none", "one", "both", "post")
        for size in (3, 5, 7)
    ),
]
PHONE = Device(
    processor="A phone", cores=6, threads=2, runtime="coreml 9", optimization="all", governor=None, system="iOS"
)


def make_profile(
    name: str, *, device: Device = PHONE, reference_ms: float | None = None, ms: float = 5.0, leave_out: str = "nothing"
) -> DeviceProfile:
    """A profile of `device` that predicts `ms` or less for S1 at 64 pixels; terms named `leave_out…` are not in it."""
    largest: dict[str, float] = {}
    for network in _NETWORKS:
        terms = NetworkTerms.of(lower(network, resolution=_RESOLUTION), vector_width=16).total
        largest |= {term: max(value, largest.get(term, 0.0)) for term, value in terms.items()}
    return DeviceProfile(
        name=name,
        device=device,
        backend="onnxruntime-cpu",
        date="2026-01-02",
        resolution=_RESOLUTION,
        reference=None if reference_ms is None else Reference(ms=reference_ms, spread=0.01, runs=100, device=device),
        vector_width=16,
        coefficients_ms={
            term: ms / len(largest) / value
            for term, value in largest.items()
            if value and not term.startswith(leave_out)
        },
        interval_log=(-0.1, 0.1),
        held_out=HeldOut(
            method="made up", networks=1, mape_percent=1.0, within_5_percent=99.0, within_10_percent=99.0, spearman=1.0
        ),
        samples=(Sample(architecture="starnet_s1", ms=ms),),
    )


def this_machine() -> Device:
    return device_fingerprint()
