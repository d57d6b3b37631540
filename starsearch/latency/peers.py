"""Other efficient networks of timm: their published top-1, and their latency on a device by the same paired protocol.

What is measured is kept as a ratio to the reference network, which holds on the scale of any study of that device.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from starsearch.errors import EvaluationError, StudyError, first_line
from starsearch.files import written_whole
from starsearch.latency.backends.networks import timm_network
from starsearch.latency.measure import MeasureSpec, measure
from starsearch.progress import Progress, scaled
from starsearch.resources import shipped_folder

_MEASURED = ["name", "resolution", "ratio", "ratio_std_error", "pairs", "device"]


def published_peers() -> pd.DataFrame:
    """Return `top1_percent` on ImageNet, `resolution` in pixels, `distilled` and `source`, by timm's name."""
    return pd.read_csv(shipped_folder("profiles") / "published" / "peers.csv", comment="#", index_col="name")


def cache_file(profile: Path | None = None) -> Path:
    """Return where what was measured is kept: beside a profile's file, else in the user's data folder."""
    from platformdirs import user_data_path

    return profile.with_suffix(".peers.csv") if profile else user_data_path("starsearch") / "peers.csv"


def read_measured(file: Path, device: str) -> pd.DataFrame:
    """Return what a cache, or one that ships, holds of a device, by timm's name; empty where there is none."""
    found = pd.DataFrame(columns=_MEASURED)
    for one in (*sorted(shipped_folder("profiles").glob("*.peers.csv")), file):
        try:
            found = pd.concat([found, pd.read_csv(one)[_MEASURED]]) if one.is_file() else found
        except (ValueError, KeyError) as error:
            raise StudyError(f"{one} is no table of measured peers: {first_line(error)} Move it away.") from error
    return found[found["device"] == device].drop_duplicates("name", keep="last").set_index("name")


def peer_table(file: Path, device: str, *, reference_ms: float, names: Sequence[str] = ()) -> pd.DataFrame:
    """Return a row for each of the names, else for each that was measured on the device.

    Columns: `name`, `top1_percent`, `top1_source`, `resolution`, `distilled` as published; `latency_ms` and
    `latency_std_error` as measured there, on the scale of `reference_ms`, `pairs`, `device`. NaN is what is not known.
    """
    measured = read_measured(file, device)
    table = published_peers().rename(columns={"source": "top1_source"}).reindex(list(names) or measured.index)
    times = measured.reindex(table.index)
    return table.assign(
        resolution=times["resolution"].fillna(table["resolution"]),
        latency_ms=times["ratio"] * reference_ms,
        latency_std_error=times["ratio_std_error"] * reference_ms,
        pairs=times["pairs"],
        device=device,
    ).reset_index(names="name")


def measure_peers(names: Sequence[str], spec: MeasureSpec, file: Path) -> Generator[Progress, None, dict[str, str]]:
    """Measure those that the cache does not have, each at its published resolution; return why some could not be."""
    import timm

    published, device, reasons = published_peers(), spec.open_backend().describe_device().text, dict[str, str]()
    missing = [name for name in names if name not in read_measured(file, device).index]
    for number, name in enumerate(missing):
        if not timm.is_model(name.partition(".")[0]):
            reasons[name] = f"timm {timm.__version__} does not have it"
            continue
        try:
            module: Any = timm_network(name)
            own = int((module.pretrained_cfg or {}).get("input_size", (3, 224, 224))[-1])
            pixels = int(published["resolution"].get(name, own))
            ends = number / len(missing), (number + 1) / len(missing)
            steps = scaled(measure(module, replace(spec, resolution=pixels)), *ends)
            timing = (yield from steps).timing
        except (EvaluationError, RuntimeError) as error:  # timm's builder raises the latter for a tag it does not know
            reasons[name] = first_line(error)
            continue
        row = (name, pixels, timing.ratio, timing.spread, timing.pairs, device)
        before = [pd.read_csv(file)] if file.is_file() else []
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file, "the latencies of peers") as partial:
            pd.concat([*before, pd.DataFrame([row], columns=_MEASURED)]).to_csv(partial, index=False)
    return reasons
