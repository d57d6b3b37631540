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
from starsearch.resources import shipped_folder, shipped_names

_MEASURED = ["name", "resolution", "ratio", "ratio_std_error", "pairs", "device"]


def published_peers() -> pd.DataFrame:
    """Return `top1_percent` on ImageNet, `resolution` in pixels, `distilled` and `source`, by timm's name."""
    return pd.read_csv(shipped_folder("profiles") / "published" / "peers.csv", comment="#", index_col="name")


def cache_file(profile: str | None = None) -> Path:
    """Return where what was measured is kept: beside a profile's file, else, also of a shipped one, with the user."""
    from platformdirs import user_data_path

    if profile is None or profile in shipped_names("profiles"):
        return user_data_path("starsearch") / "peers.csv"
    return Path(profile).with_suffix(".peers.csv")


def read_measured(file: Path, device: str, *, with_shipped: bool) -> pd.DataFrame:
    """Return what a cache holds of a device, by timm's name, and what else ships for a device of the same text.

    `shipped` is the name of the profile with which a row ships, "" where it was measured by the user.
    """
    found = [pd.DataFrame(columns=[*_MEASURED, "shipped"], dtype=float)]
    for one in (file, *(sorted(shipped_folder("profiles").glob("*.peers.csv")) if with_shipped else ())):
        try:
            if one.is_file():
                name = "" if one == file else one.name.removesuffix(".peers.csv")
                found.append(pd.read_csv(one)[_MEASURED].assign(shipped=name))
        except (ValueError, KeyError) as error:
            raise StudyError(f"{one} is no table of measured peers: {first_line(error)} Move it away.") from error
    rows = pd.concat(found[1:] or found)
    return rows[rows["device"] == device].drop_duplicates("name").set_index("name")


def peer_table(
    file: Path, device: str, *, with_shipped: bool, reference_ms: float, names: Sequence[str] = ()
) -> pd.DataFrame:
    """Return a row for each of the names, else for each that was measured on the device.

    Columns: `name`, `top1_percent`, `top1_source`, `resolution`, `distilled` as published; `latency_ms` and
    `latency_std_error` as measured there, on the scale of `reference_ms`, `pairs`, `device`. NaN is what is not known.
    With `with_shipped` also what ships for a device of that text: `shipped` names its profile, and is "" of others.
    """
    measured = read_measured(file, device, with_shipped=with_shipped)
    table = published_peers().rename(columns={"source": "top1_source"}).reindex(list(names) or measured.index)
    times = measured.reindex(table.index)
    return table.assign(
        resolution=times["resolution"].fillna(table["resolution"]),
        latency_ms=times["ratio"] * reference_ms,
        latency_std_error=times["ratio_std_error"] * reference_ms,
        pairs=times["pairs"],
        device=device,
        shipped=times["shipped"].fillna(""),
    ).reset_index(names="name")


def measure_peers(names: Sequence[str], spec: MeasureSpec, file: Path) -> Generator[Progress, None, dict[str, str]]:
    """Measure them, each at its published resolution, and add them to the cache; return why some could not be."""
    import timm

    published, device, reasons = published_peers(), spec.open_backend().describe_device().text, dict[str, str]()
    for number, name in enumerate(names):
        if not timm.is_model(name.partition(".")[0]):
            reasons[name] = f"timm {timm.__version__} does not have it"
            continue
        try:
            module: Any = timm_network(name)
            own = int((module.pretrained_cfg or {}).get("input_size", (3, 224, 224))[-1])
            pixels = int(published["resolution"].get(name, own))
            ends = number / len(names), (number + 1) / len(names)
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
