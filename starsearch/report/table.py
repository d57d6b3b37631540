"""The front and the failures for the terminal and for scripts."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from starsearch.objective import Objective
from starsearch.recipe import value_text
from starsearch.report.front import RECIPE_COLUMN, further_latencies
from starsearch.report.labels import QUANTITIES, Quantity, anchor_label, quantity
from starsearch.report.summary import failure_reasons

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table
    from rich.text import Text

_COSTS = ("macs", "num_params")
NOT_APART = "~"


def render_front(front: pd.DataFrame, objectives: Sequence[Objective], *, limit: int | None = None) -> Table:
    """Return the front as a rich table of figures; `architecture_lines` say what the trials' networks are.

    Args:
        front: of `front_table`.
        objectives: the study's; each becomes a column, with its spread, and so do further latencies; what was
            predicted stands behind "≈", or where it was measured afterwards in a further column with its error.
        limit: rows at most, from the top; None for all.
    """
    from rich.text import Text

    table = _empty_table("Front" if len(objectives) > 1 else "Ranking")
    shown = shown_quantities(front, objectives)
    costs = [QUANTITIES[name] for name in _COSTS if name in front and QUANTITIES[name] not in shown]
    for heading in ("#", "Trial"):
        table.add_column(heading, justify="right", no_wrap=True)
    for column in (*shown, *costs):
        table.add_column(_two_lines(column), justify="right", no_wrap=True)
        if has_predictions(front, column):
            table.add_column(f"Predicted\n{column.unit}, error", justify="right", no_wrap=True)
    table.add_column("Against nearest published", min_width=12, ratio=1)
    for row in plain_rows(front)[:limit]:
        measured = [Text(text) for column in shown for text in reading_texts(front, row, column)]
        costing = [Text(column.number(_float(row[column.name]))) for column in costs]
        style = "" if row["on_front"] or row["rank"] else "dim"
        rank = f"{row['rank'] or '–'}{NOT_APART if row.get('told_apart_from_previous') is False else ''}"
        table.add_row(rank, str(row["number"]), *measured, *costing, _change(row, objectives), style=style)
    if front.empty:
        table.caption = "No front: no feasible trial has completed with every objective measured."
    elif limit is not None and len(front) > limit:
        table.caption = f"{len(front) - limit} more rows."
    return table


def architecture_lines(front: pd.DataFrame) -> list[str]:
    """What the network of each row is: its trial's number, and the architecture as commands read it."""
    lines = []
    for row in plain_rows(front):
        published = "" if row["anchor"] is None else published_text(row)
        lines.append(f"trial {row['number']}  {architecture_name(row)}{f' ({published})' if published else ''}")
    return lines


def published_text(row: Mapping[str, Any]) -> str:
    """What the network of a row costs as papers count it; "" where that is not known."""
    if row.get("published_macs") is None:
        return ""
    macs, params = (QUANTITIES[name].number(row[f"published_{name}"]) for name in _COSTS)
    return f"with 1000 classes: {macs} MMACs, {params} M parameters"


def legend_lines(front: pd.DataFrame) -> list[str]:
    """What the signs in a table of the front mean, as far as they stand there."""
    lines = []
    if any(str(column).endswith("_spread") for column in front):
        lines.append("± one standard error, of accuracies that of their validation images.")
    if any(str(column).startswith("told_apart") and front[column].eq(False).any() for column in front):
        lines.append(
            f"{NOT_APART} not told apart: a difference of less than twice its standard error; behind #, from the row "
            "above."
        )
    if "macs" in front:
        lines.append("MACs and Params: of the deployed network, with the data's own classes.")
    return lines


def shown_quantities(front: pd.DataFrame, objectives: Sequence[Objective]) -> list[Quantity]:
    """The objectives, then the latencies that are none, as a table of the front shows them."""
    names = [objective.name for objective in objectives] + further_latencies(front, objectives)
    return [quantity(name) for name in names]


def render_failures(trials: pd.DataFrame) -> Table:
    """Why those of `trials` that failed did, as a rich table: each reason once, the most frequent first."""
    from rich.text import Text

    table = _empty_table("Failed trials")
    table.add_column("Count", justify="right", no_wrap=True)
    table.add_column("Reason", overflow="fold", ratio=1)
    table.add_column("Trials", overflow="fold")
    for row in plain_rows(failure_reasons(trials)):
        table.add_row(str(row["count"]), Text(row["reason"]), shorten_numbers(row["numbers"]))
    return table


def shorten_numbers(numbers: Sequence[int], *, limit: int = 5) -> str:
    """The first `limit` numbers, and how many more there are: "1, 4, 9, 12, 13 and 3 more"."""
    listed = ", ".join(str(number) for number in numbers[:limit])
    return listed if len(numbers) <= limit else f"{listed} and {len(numbers) - limit} more"


def to_json(front: pd.DataFrame, summary: Mapping[str, Any] | None = None) -> str:
    """The front's rows under "front", what `summary` says under "summary"; what was not measured is null."""
    rows = json.loads(front.to_json(orient="records", double_precision=15))
    return json.dumps({"front": rows} | ({} if summary is None else {"summary": summary}), indent=2, allow_nan=False)


def architecture_name(row: Mapping[str, Any]) -> str:
    """An anchor's name, else the architecture's text; then the searched recipe."""
    name: str = row["anchor"] or str(row["architecture_text"])
    recipe = [
        f"{key.removeprefix(RECIPE_COLUMN)}={value_text(value)}"
        for key, value in row.items()
        if key.startswith(RECIPE_COLUMN) and value is not None
    ]
    return f"{name}; {', '.join(recipe)}" if recipe else name


def change_texts(row: Mapping[str, Any], objectives: Sequence[Objective]) -> list[tuple[str, float, bool]]:
    """The change of each objective against the nearest anchor ("−0.42 ms"), its gain, and whether it is told apart."""
    found = []
    for objective in objectives:
        gain = _float(row.get(f"gain_{objective.name}"))
        change = gain if objective.direction == "maximize" else -gain
        is_apart = row.get(f"told_apart_{objective.name}") is not False
        found.append((quantity(objective.name).change(change), gain, is_apart))
    return found


def has_predictions(front: pd.DataFrame, column: Quantity) -> bool:
    """Whether `column` was predicted and then measured in any row, and so has a further column for the prediction."""
    errors = f"{column.name}_error_percent"
    return errors in front and bool(front[errors].notna().any())


def reading_texts(front: pd.DataFrame, row: Mapping[str, Any], column: Quantity) -> list[str]:
    """The cells of `column`: the value with its spread ("2.31 ± 0.02"), or as predicted ("≈ 2.25").

    Where any row of the front was measured afterwards, a second one holds the prediction with its error:
    "2.25 (−2.6 %)".
    """
    value, spread = _float(row[column.name]), row.get(f"{column.name}_spread")
    only_predicted = row.get(f"{column.name}_kind") == "predicted"
    texts = [column.predicted(value) if only_predicted else column.with_spread(value, spread)]
    if has_predictions(front, column):
        error = row[f"{column.name}_error_percent"]
        predicted = column.number(_float(row[f"{column.name}_predicted"]))
        texts.append(predicted if error is None else f"{predicted} ({error:+.1f} %)".replace("-", "−"))
    return texts


def plain_rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows as dictionaries, with None for every missing value."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _plain(value: Any) -> Any:
    import pandas as pd

    return None if pd.api.types.is_scalar(value) and pd.isna(value) else value


def _empty_table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False
    )


def _two_lines(column: Quantity) -> str:
    return f"{column.label}\n{column.unit}"


def _float(value: Any) -> float:
    return math.nan if value is None else float(value)


def _change(row: Mapping[str, Any], objectives: Sequence[Objective]) -> Text:
    from rich.text import Text

    text = Text(row["anchor"] or "", style="bold")
    if row["nearest_anchor"] is not None:
        text = Text(anchor_label(row["nearest_anchor"]))
        for change, gain, is_apart in change_texts(row, objectives):
            text.append(" ")
            # Without its space a number never parts from its unit where the cell folds.
            style = "" if not is_apart else "green" if gain > 0 else "red" if gain < 0 else ""
            text.append(change.replace(" ", "") + ("" if is_apart else NOT_APART), style=style)
    if not row["feasible"]:
        text.append(" (breaks a constraint)", style="italic")
    return text
