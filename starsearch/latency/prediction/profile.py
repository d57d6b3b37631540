"""`DeviceProfile`: a device's latency calibration as NAME.yaml to read and share, with NAME.csv of its samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated

import numpy as np
import yaml
from annotated_types import Ge, MinLen
from numpy.typing import NDArray
from pydantic import FiniteFloat, PositiveInt, TypeAdapter, ValidationError

from starsearch.errors import SpecError, did_you_mean
from starsearch.files import written_whole
from starsearch.latency.device import Device
from starsearch.latency.prediction.imported import Sample, read_measurements, save_samples
from starsearch.latency.reference import Reference
from starsearch.resolution import Between, Resolution
from starsearch.yaml_file import read_yaml

FloatVector = NDArray[np.float64]

_HEAD = """\
# Latency profile of a device (starsearch). ms of a network = the sum of its layers' terms by coefficients_ms, channels
# rounded up to vector_width. interval_log: ln(measured / predicted) of a network lies between these with 90 %, for
# networks like the samples. The samples are in the CSV file beside this one.
"""
_AGAIN = "Copy it again, or make it anew with `starsearch latency fit`."


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """How well networks that the fit had not seen are predicted."""

    method: str  # how they were held out ("10-fold cross-validation", "leave-one-out", "fresh networks")
    networks: int
    mape_percent: float  # mean absolute relative error
    within_5_percent: float  # share of networks predicted within ±5 %, in percent
    within_10_percent: float  # the same, ±10 %
    spearman: float  # rank correlation of predicted and measured


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A device, the scale of its latencies, and what its layers cost."""

    name: str  # the file's, without its suffix
    device: Device  # what was measured
    backend: str  # what ran the networks, or "imported" for figures measured elsewhere
    date: str  # when it was calibrated, ISO 8601
    resolution: Annotated[Resolution, Between(1, 4096)]  # of the networks it was fitted to
    # the reference network's time there, the scale of paired measurements; None where the figures were not
    # measured in pairs
    reference: Reference | None
    vector_width: PositiveInt  # channels a vector instruction takes; layers are costed with channels rounded up to it
    # by term, milliseconds per unit of the term (`starsearch.latency.prediction.terms`)
    coefficients_ms: Annotated[Mapping[str, Annotated[FiniteFloat, Ge(0)]], MinLen(1)]
    # ends of a 90 % prediction interval, as natural logarithms of measured / predicted
    interval_log: tuple[FiniteFloat, FiniteFloat]
    held_out: HeldOut  # the error on networks the fit had not seen
    samples: tuple[Sample, ...] = field(repr=False)  # what it was fitted to
    note: str = ""  # a caveat to be shown with every use; empty for none


def load_profile(path: Path) -> DeviceProfile:
    """Read the profile that `save_profile` wrote, with its samples."""
    file = read_yaml(path)
    if not isinstance(file.data, dict):
        raise SpecError(
            f"{path} is no profile: it is no mapping of keys. Make one with `starsearch latency fit --out {path}`."
        )
    data = dict(file.data)
    samples = path.parent / Path(str(data.pop("samples", "")) or f"{path.stem}.csv").name  # beside it, wherever it is
    if not samples.is_file():
        raise SpecError(
            f"The profile {path} names its samples {samples.name}, which is not beside it. Copy both files together."
        )
    known = [field.name for field in fields(DeviceProfile)]
    for key in data:
        if key not in known:
            raise file.error((key,), f"damaged profile: no such key.{did_you_mean(str(key), known)}")
    try:
        adapter = TypeAdapter(DeviceProfile)
        profile = adapter.validate_python({"name": path.stem, **data, "samples": read_measurements(samples)[0]})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        came = str(first["input"])[:60]
        raise file.error(first["loc"], f"damaged profile: {first['msg'].lower()}; got {came!r}. {_AGAIN}") from None
    if profile.interval_log[0] > profile.interval_log[1]:
        raise file.error(("interval_log",), f"damaged profile: its first end is above its second. {_AGAIN}")
    return profile


def save_profile(profile: DeviceProfile, path: Path) -> None:
    """Write the profile at `path` and its samples beside it; each file takes its place when it is whole."""
    data = {key: value for key, value in asdict(profile).items() if key not in ("name", "samples")}
    data["coefficients_ms"] = {name: _round(value) for name, value in sorted(data["coefficients_ms"].items())}
    data["interval_log"] = [_round(end) for end in data["interval_log"]]
    data["held_out"] = {k: _round(v) if isinstance(v, float) else v for k, v in data["held_out"].items()}
    data["samples"] = f"{path.stem}.csv"
    text = _HEAD + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
    save_samples(profile.samples, path.with_suffix(".csv"))
    with written_whole(path, "the profile", error=SpecError) as partial:
        partial.write_text(text, encoding="utf-8")


def _round(value: float) -> float:
    """Round to six digits, more than anything measured has."""
    return float(f"{value:.6g}")
