"""A device profile as files: NAME.yaml to read and share, and beside it NAME.csv with the raw samples."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from starsearch.errors import SpecError, did_you_mean
from starsearch.latency.imported import SHARE, read_samples
from starsearch.latency.profile import DeviceProfile, Sample
from starsearch.yaml_file import YamlFile, read_yaml

_KEYS = tuple(field.name for field in fields(DeviceProfile))
_HEAD = """\
# Latency profile of a device (starsearch). ms of a network = the sum of its layers' terms by coefficients_ms, channels
# rounded up to vector_width. interval_log: ln(measured / predicted) of a network lies between these with 90 %, for
# networks like the samples. The samples are in the CSV file beside this one.
"""


def load_profile(path: Path) -> DeviceProfile:
    """The profile that `save_profile` wrote, its samples with it.

    Raises:
        SpecError: the file cannot be read or is no profile, or its samples are missing.
    """
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
    return _validate({"name": path.stem, **data}, read_samples(samples), file)


def save_profile(profile: DeviceProfile, path: Path) -> None:
    """Write the profile at `path` and its samples beside it; each file takes its place when it is whole.

    Raises:
        SpecError: the files cannot be written.
    """
    import yaml

    known = asdict(profile)
    known["coefficients_ms"] = {name: _round(value) for name, value in sorted(known["coefficients_ms"].items())}
    known["interval_log"] = [_round(end) for end in known["interval_log"]]
    known["held_out"] = {k: _round(v) if isinstance(v, float) else v for k, v in known["held_out"].items()}
    data = {key: value for key, value in known.items() if key not in ("name", "samples")}
    data["samples"] = f"{path.stem}.csv"
    text = _HEAD + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_samples(profile.samples, path.with_suffix(".csv"))
        _replace(path, text)
    except OSError as error:
        raise SpecError(f"The profile cannot be written to {path}: {error.strerror}.") from error


def save_samples(samples: Sequence[Sample], path: Path) -> None:
    """Write samples as CSV.

    Raises:
        OSError: the file cannot be written.
    """
    kinds = sorted({kind for sample in samples for kind in sample.shares})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["architecture", "ms", "pairs", "spread_ms", *(f"{SHARE}{kind}" for kind in kinds)])
    for sample in samples:
        spread = "" if sample.spread_ms is None else f"{sample.spread_ms:.6g}"
        shares = (f"{sample.shares[kind]:.5g}" if kind in sample.shares else "" for kind in kinds)
        writer.writerow([sample.architecture, f"{sample.ms:.6g}", sample.pairs, spread, *shares])
    _replace(path, text.getvalue())


def _round(value: float) -> float:
    """To six digits, more than anything measured has."""
    return float(f"{value:.6g}")


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _validate(data: dict[str, Any], samples: tuple[Sample, ...], file: YamlFile) -> DeviceProfile:
    from pydantic import TypeAdapter, ValidationError

    again = "Copy it again, or make it anew with `starsearch latency fit`."
    for key in data:
        if key not in _KEYS:
            raise file.error((key,), f"damaged profile: no such key.{did_you_mean(str(key), _KEYS)}")
    known = {**data, "samples": [asdict(sample) for sample in samples]}
    try:
        # By way of JSON: there pydantic takes a mapping for a dataclass, a list for a tuple.
        profile = TypeAdapter(DeviceProfile).validate_json(json.dumps(known, default=str), strict=False)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        came = str(first["input"])[:60]
        raise file.error(first["loc"], f"damaged profile: {first['msg'].lower()}; got {came!r}. {again}") from None
    for rule, is_kept in _rules(profile).items():
        if not is_kept:
            raise SpecError(f"The profile {file.path} is damaged: {rule}. {again}")
    return profile


def _rules(profile: DeviceProfile) -> dict[str, bool]:
    """What holds for every profile, in words, and whether it does for this one."""
    coefficients, (low, high) = profile.coefficients_ms.values(), profile.interval_log
    reference, threads = profile.reference, profile.device.threads
    return {
        "coefficients_ms are finite and not below 0, and there is at least one": bool(coefficients)
        and all(math.isfinite(value) and value >= 0 for value in coefficients),
        "interval_log is finite and its first end is not above its second": -math.inf < low <= high < math.inf,
        "vector_width and resolution are at least 1": min(profile.vector_width, profile.resolution) >= 1,
        "reference.ms is above 0": reference is None or 0 < reference.ms < math.inf,
        "device.threads are at least 1": threads is None or threads >= 1,
    }
