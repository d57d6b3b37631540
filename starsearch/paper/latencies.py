"""Tables 6 and 8: latencies on one core of this machine beside those of the paper's devices."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from starsearch.bench.table import LATENCY_ROWS, append_row, read_table
from starsearch.errors import EvaluationError, StudyError
from starsearch.families.family import Architecture, presets
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.paper.finding import Finding, Reproduction, Setting, Verdict, interval_of_mean, judge_sign
from starsearch.progress import Progress, scaled
from starsearch.resources import shipped_folder

if TYPE_CHECKING:
    from starsearch.latency.reference import Reference

_XEON = "e5-2680v4"
_CLEAR = 2  # standard errors by which one latency is below another


def find_table6(setting: Setting) -> Generator[Progress, None, Finding]:
    """Measure each network of the table that can be built, in the form in which it is deployed."""
    with files("starsearch.paper").joinpath("table6.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, comment="#", index_col="model", keep_default_na=False)
    found = yield from measure_each([text for text in table["network"] if text], _folder(setting))
    return judge_table6(table.join(found, on="network"))


def judge_table6(table: pd.DataFrame) -> Finding:
    """Return rows and verdict from the printed table with `ms` and `spread_ms` as measured here (NaN: not measured)."""
    from scipy.stats import kendalltau

    here = table.dropna(subset="ms")
    stars = here.index.str.startswith("StarNet")
    better: dict[Verdict, list[str]] = {"did not hold": [], "could not be told": []}
    for name, star in here[stars].iterrows():
        for peer, other in here[~stars].iterrows():
            error = _CLEAR * float(star["spread_ms"] ** 2 + other["spread_ms"] ** 2) ** 0.5
            if other["top1_percent"] >= star["top1_percent"] and other["ms"] < star["ms"] + error:
                verdict: Verdict = "did not hold" if other["ms"] < star["ms"] - error else "could not be told"
                better[verdict].append(f"{peer} than {name}")
    held: Verdict = next((verdict for verdict, pairs in better.items() if pairs), "held")
    against = better.get(held, [])
    missing = table.index[table["ms"].isna()]
    order = kendalltau(here["xeon_ms"], here["ms"])
    return Finding(
        rows=pd.DataFrame(
            {
                "network": table.index,
                "top-1, %": table["top1_percent"].to_numpy(),
                "iPhone, ms": table["iphone_ms"].to_numpy(),
                "P100, ms": table["p100_ms"].to_numpy(),
                "published": table["xeon_ms"].to_numpy(),
                "here": table["ms"].round(3).to_numpy(),
                "spread": table["spread_ms"].round(3).to_numpy(),
            }
        ),
        verdict=held,
        sentence=(
            "On one core here, in ms, beside the published Xeon's: "
            + (f"as accurate and faster are {', '.join(against)}" if against else "no peer is as accurate and faster")
            + f". The order of {len(here)} networks agrees with the Xeon's to τ {order.statistic:.2f} "
            f"(p {order.pvalue:.1g}). Not measured: {', '.join(missing) or 'none'}."
        ),
    )


def find_table8(setting: Setting) -> Generator[Progress, None, Finding]:
    """Measure the StarNets with stars and with sums."""
    with (shipped_folder("profiles") / "published" / "latency_ms.csv").open(encoding="utf-8") as file:
        table = pd.read_csv(file, comment="#")
    table = table[table["source"] == "table8"].pivot_table(index=["model", "op"], columns="device", values="ms")
    table["network"] = [format_architecture(with_op(presets()[name], op)) for name, op in table.index]
    found = yield from measure_each(table["network"].tolist(), _folder(setting))
    return judge_table8(table.join(found, on="network"))


def with_op(architecture: Architecture, op: str) -> Architecture:
    """Return the network with one operation in all its stages."""
    return cast("Architecture", replace(cast("Any", architecture), ops=(op,) * architecture.num_stages)).canonical()


def judge_table8(table: pd.DataFrame) -> Finding:
    """Return rows and verdict from a table by network and operation, with `ms` and `spread_ms` as measured here."""
    stars, sums = (table.xs(op, level="op") for op in ("star", "sum"))
    more, low, high = interval_of_mean((100 * (stars["ms"] / sums["ms"] - 1)).tolist())
    published = 100 * (stars[_XEON] / sums[_XEON] - 1)
    return Finding(
        rows=pd.DataFrame(
            {
                "network": [f"{name}, {op}" for name, op in table.index],
                "iPhone, ms": table["iphone"].to_numpy(),
                "P100, ms": table["p100"].to_numpy(),
                "published": table[_XEON].to_numpy(),
                "here": table["ms"].round(3).to_numpy(),
                "spread": table["spread_ms"].round(3).to_numpy(),
            }
        ),
        verdict=judge_sign(low, high),
        sentence=(
            f"In ms, beside the published Xeon's: on one core here a star takes {more:+.1f} % more than a sum "
            f"({low:+.1f} to {high:+.1f}, 95 % over the {len(stars)} sizes); published: {published.min():.0f} to "
            f"{published.max():.0f} % more."
        ),
    )


def measure_each(networks: Sequence[str], folder: Path) -> Generator[Progress, None, pd.DataFrame]:
    """Return `ms` and `spread_ms` by network; measure what the folder lacks, and keep each as it ends.

    One core, batch 1, 224 px, 1000 classes, in pairs with the reference network.

    Raises:
        StudyError: the folder's were measured on another device.
    """
    from starsearch.bench.making import kept_scale, measure_row
    from starsearch.latency.device import device_fingerprint, processor_name

    device = device_fingerprint().text
    rows = read_table(folder)
    if set(rows["conditions"]) - {device}:
        raise StudyError(f"The latencies in {folder} are another device's than this ({device}): give another --out.")
    reference: Reference | None = None
    there = set(rows["network"])
    for number, text in enumerate(networks):
        yield Progress(fraction=number / len(networks), stage=f"measuring {text}")
        if text in there:
            continue
        reference = reference or kept_scale(rows)
        row = {"fidelity": LATENCY_ROWS, "network": text, "seed": 0, "device": processor_name(), "conditions": device}
        try:
            steps = measure_row(parse_architecture(text), reference, seed=0)
            row |= yield from scaled(steps, number / len(networks), (number + 1) / len(networks))
        except EvaluationError as error:
            row["failed"] = str(error)
        append_row(folder, row)
    known = read_table(folder).set_index("network").astype({"latency_ms": float, "latency_spread_ms": float})
    return known[["latency_ms", "latency_spread_ms"]].set_axis(["ms", "spread_ms"], axis="columns")


def _folder(setting: Setting) -> Path:
    return setting.folder.with_name("latencies")


LATENCIES = {
    "table6": Reproduction(
        title="Table 6: latencies of efficient networks",
        claim="On a processor no peer is as accurate as a StarNet and faster.",
        find=find_table6,
        hours=0.1,
    ),
    "table8": Reproduction(
        title="Table 8: latency of star and sum",
        claim="On a processor stars take a little longer than sums.",
        find=find_table8,
        hours=0.05,
    ),
}
