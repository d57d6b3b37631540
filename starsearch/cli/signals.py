"""`starsearch signals`: what untrained networks tell of their accuracy."""

from __future__ import annotations

import math
from dataclasses import asdict
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from starsearch.cli.options import Json, pixels
from starsearch.files import written_whole

if TYPE_CHECKING:
    from starsearch.api.signals import SignalAudit
    from starsearch.cli.show import Cell


_READING = (
    "Star/sum, one/none (activation), kernel 7/3: 1 where the first always has the higher value on otherwise equal "
    "networks, −1 where it has the lower, 0 where the signal does not see it."
)


def signals(
    truth: Annotated[
        str,
        typer.Argument(
            metavar="SPACE|STUDY|TABLE",
            help="A space file or a shipped space's name, a study's folder, or the folder of a StarBench table.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Option(help="Its training images are shown, as `starsearch run` takes it. Without it: Gaussian noise."),
    ] = None,
    signal: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="This row of the table alone, or with several all of these: zico, az_nas (and its parts), estimate.",
        ),
    ] = None,
    resolution: Annotated[
        str | None, pixels("Of the images, in multiples of 32; without it 64.", low=32, high=1024)
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of images, weights, draws and intervals.")] = 0,
    csv: Annotated[Path | None, typer.Option(help="Write the table to this file.")] = None,
    json: Json = False,
) -> None:
    """Say which signals of untrained networks rank better than parameter count, and what they see.

    A signal (NWOT, SNIP, SynFlow, ZiCo, Zen) takes seconds where a training takes minutes.
    Most know little beyond size, and no search uses one.

    Of a space, the published networks are ranked by their ImageNet top-1; of a study, its own by their accuracy; of a
    StarBench table, its networks by their short trainings.
    Kendall's tau is 1 where a signal has their order, and 0 where it knows nothing.

    Beside the signals stand top-1 after earlier epochs ("epoch-1"), as a rung there would rank, a table's
    shortest trainings ("quick"), and what the accuracy model says of each tenth of the networks without their
    results ("estimate").

    Examples:

        starsearch signals starnet

        starsearch signals studies/starnet --data cifar10/ --signal zico --signal num_params

        starsearch signals studies/starbench
    """
    import pandas as pd

    from starsearch.api.signals import audit_signals
    from starsearch.cli.live import bar
    from starsearch.cli.show import figure, print_json, print_table, say, table

    with bar() as watch:
        words, found = audit_signals(
            truth, data=data, signals=signal or (), resolution=resolution, seed=seed, watch=watch
        )
    flat = pd.json_normalize([asdict(one) for one in found], sep="_")
    if csv is not None:
        with written_whole(csv) as partial:
            flat.to_csv(partial, index=False, float_format="%.4g")
    if json:  # by pandas, which writes NaN as null
        print_json({"truth": words, "signals": loads(flat.to_json(orient="records"))})
        return
    columns: dict[str, Cell] = {
        "Signal": lambda one: one.signal,
        "τ (95 %)": lambda one: str(one.ranking.overall),
        "Equal cost": lambda one: figure(one.ranking.in_bands.value),
        "Best few": lambda one: figure(one.ranking.best_tenth.value),
        "Beats params": lambda one: figure(one.ranking.better_than_params, ".0%"),
        "star/sum": lambda one: figure(one.sees.get("ops", math.nan)),
        "one/none": lambda one: figure(one.sees.get("activation", math.nan)),
        "7/3": lambda one: figure(one.sees.get("kernel_size", math.nan)),
        "CPU s": lambda one: figure(one.seconds),
    }
    print_table(table(found, columns, title=f"What ranks networks, against {words}"))
    say(*_lessons(found))


def _lessons(found: list[SignalAudit]) -> list[str]:
    """Return which signals are worth anything beside parameter count, and how the table is read."""
    from starsearch.errors import some

    better = [one.signal for one in found if one.ranking.beats_params]
    lacking = [
        f"{one.signal} ({one.ranking.candidates})"
        for one in found
        if one.ranking.candidates < max(other.ranking.candidates for other in found)
    ]
    lines = [f"Better than parameter count in 95 % of the resamples: {some(better, most=20) or 'none'}.", _READING]
    return [*lines, f"Without a value for some networks: {some(lacking, most=20)} have one."] if lacking else lines
