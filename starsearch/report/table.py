"""The front's rows as texts, for the terminal and the page, and as JSON."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from starsearch.objective import Objective
from starsearch.quantities import QUANTITIES, Quantity, quantity
from starsearch.recipe import value_text
from starsearch.report.front import RECIPE_COLUMN, further_latencies
from starsearch.resolution import recorded

_COSTS = ("macs", "num_params")
NOT_APART = "~"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A row of the front in texts.

    `cells` stand below the headings of `front_rows`; `changes` against the nearest published network are texts
    ("−0.42 ms"), gains, and whether they are told apart.
    """

    number: int
    rank: str
    anchor: str | None
    name: str
    published: str
    cells: tuple[str, ...]
    nearest: str | None
    changes: tuple[tuple[str, float, bool], ...]
    is_feasible: bool
    is_ranked: bool


def front_rows(front: pd.DataFrame, objectives: Sequence[Objective]) -> tuple[list[tuple[str, str]], list[Row]]:
    """Return the headings of the figures (label and unit) and the rows of a table of the front.

    The objectives come first, with their spreads, then further latencies and costs. What was predicted is marked "≈",
    or, where it was measured afterwards, has a further column with its error.
    """
    names = [objective.name for objective in objectives] + further_latencies(front, objectives)
    shown = [quantity(name) for name in (*names, *(cost for cost in _COSTS if cost in front and cost not in names))]
    headings = []
    for one in shown:
        headings.append((one.label, one.unit))
        if _was_measured_later(front, one):
            headings.append(("Predicted", f"{one.unit}, error"))
    return headings, [_row(front, row, shown, objectives) for row in plain_rows(front)]


def _row(
    front: pd.DataFrame, row: Mapping[str, Any], shown: Sequence[Quantity], objectives: Sequence[Objective]
) -> Row:
    changes = [] if row["nearest_anchor"] is None else [_change(row, objective) for objective in objectives]
    tie = NOT_APART if row.get("told_apart_from_previous") is False else ""
    return Row(
        number=row["number"],
        rank=f"{row['rank'] or '–'}{tie}",
        anchor=row["anchor"],
        name=architecture_name(row),
        published="" if row["anchor"] is None else _published(row),
        cells=tuple(text for one in shown for text in _readings(front, row, one)),
        nearest=None if row["nearest_anchor"] is None else anchor_label(row["nearest_anchor"]),
        changes=tuple(changes),
        is_feasible=bool(row["feasible"]),
        is_ranked=bool(row["on_front"] or row["rank"]),
    )


def _change(row: Mapping[str, Any], objective: Objective) -> tuple[str, float, bool]:
    gain = _float(row.get(f"gain_{objective.name}"))
    text = quantity(objective.name).change(gain if objective.direction == "maximize" else -gain)
    return text, gain, row.get(f"told_apart_{objective.name}") is not False


def _readings(front: pd.DataFrame, row: Mapping[str, Any], shown: Quantity) -> list[str]:
    """Return "2.31 ± 0.02" or "≈ 2.25"; where any row was measured after its prediction, also "2.25 (−2.6 %)"."""
    texts = [reading_text(row, shown)]
    if _was_measured_later(front, shown):
        error, predicted = row[f"{shown.name}_error_percent"], shown.number(_float(row[f"{shown.name}_predicted"]))
        texts.append(predicted if error is None else f"{predicted} ({error:+.1f} %)".replace("-", "−"))
    return texts


def reading_text(row: Mapping[str, Any], shown: Quantity) -> str:
    """Return a row's value with its spread, or marked as predicted, estimated or published."""
    kind, *ends = (row.get(f"{shown.name}_{end}") for end in ("kind", "spread", "low", "high"))
    return shown.text(_float(row.get(shown.name)), str(kind), spread=ends[0], low=ends[1], high=ends[2])


def _was_measured_later(front: pd.DataFrame, shown: Quantity) -> bool:
    errors = f"{shown.name}_error_percent"
    return errors in front and bool(front[errors].notna().any())


def architecture_name(row: Mapping[str, Any]) -> str:
    """Return an anchor's name, else the architecture's text; then resolution and recipe where they are searched."""
    recipe = [
        f"{key.removeprefix(RECIPE_COLUMN)}={value_text(value)}"
        for key, value in row.items()
        if key.startswith(RECIPE_COLUMN) and value is not None
    ]
    pixels = row.get("params_resolution")
    name = (row["anchor"] or str(row["architecture_text"])) + (f" at {recorded(pixels)} px" if pixels else "")
    return "; ".join([name, *([", ".join(recipe)] if recipe else [])])


def _published(row: Mapping[str, Any]) -> str:
    """Return what a network costs as papers count it; "" where that is not known."""
    if row.get("published_macs") is None:
        return ""
    macs, params = (QUANTITIES[name].number(row[f"published_{name}"]) for name in _COSTS)
    return f"with 1000 classes: {macs} MMACs, {params} M parameters"


def architecture_lines(rows: Sequence[Row]) -> list[str]:
    """Return a line a row: its trial's number, and the architecture as commands read it."""
    return [f"trial {row.number}  {row.name}{f' ({row.published})' if row.published else ''}" for row in rows]


def legend_lines(front: pd.DataFrame) -> list[str]:
    """Return what the signs in a table of the front mean, as far as they are in it."""
    lines = []
    if any(str(column).endswith("_spread") for column in front):
        lines.append("± one standard error, of accuracies that of their validation images.")
    if any(str(column).endswith("_kind") and front[column].eq("estimated").any() for column in front):
        lines.append(
            "≈ estimated from evidence, not measured: the best guess and its 90 % interval; its lower end ranks "
            "networks and is compared with what is published."
        )
    if any(str(column).startswith("told_apart") and front[column].eq(False).any() for column in front):
        lines.append(
            f"{NOT_APART} not told apart: a difference of less than twice its standard error; behind #, from the row "
            "above."
        )
    if "macs" in front:
        lines.append("MACs and Params: of the deployed network, with the data's own classes.")
    return lines


def to_json(front: pd.DataFrame, summary: Mapping[str, Any] | None = None) -> str:
    """Return the front's rows under "front" and `summary` under "summary"; what was not measured is null."""
    rows = json.loads(front.to_json(orient="records", double_precision=15))
    return json.dumps({"front": rows} | ({} if summary is None else {"summary": summary}), indent=2, allow_nan=False)


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows as dictionaries, with None for every missing value."""
    return frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[return-value]


def anchor_label(anchor: str) -> str:
    """Return the short name: "S1" for "starnet_s1"; any other name as it is."""
    found = re.fullmatch(r"starnet_(s\d+)", anchor)
    return found[1].upper() if found else anchor


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)
