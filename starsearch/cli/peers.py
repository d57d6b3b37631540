"""`starsearch peers`: other efficient networks on this device."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from starsearch.cli.options import Json
from starsearch.cli.show import figure, print_json, print_table, say, table


def peers(
    device: Annotated[
        str | None,
        typer.Option(metavar="PROFILE", help="A profile; else this machine by ONNX Runtime, one thread."),
    ] = None,
    names: Annotated[
        str | None, typer.Option(metavar="NAME,…", help="Networks of timm; else those whose top-1 is known here.")
    ] = None,
    json: Json = False,
) -> None:
    """Measure other efficient networks of timm as a study's are, beside their published ImageNet top-1.

    Each is timed here, at the resolution of its published accuracy, unless it was before: what was measured is kept. A
    report draws it where its accuracy is ImageNet's too, never beside proxies. The latencies that ship are those of
    epyc-demonet: --device epyc-demonet shows them without measuring, and a report draws them, marked as shipped, for
    a processor of the same name until these are measured.

    Example:

        starsearch peers --names mobilenetv4_conv_small.e2400_r224_in1k,cpubone_nano.r224_in1k
    """
    from starsearch.api.peers import peers
    from starsearch.cli.live import bar

    with bar() as watch:
        found, where = peers(device, names.split(",") if names else (), watch=watch)
    if json:
        print_json(found.astype(object).where(found.notna(), None).to_dict("records"))
        return
    columns: dict[str, Any] = {
        "network": "{name}",
        "top-1 %": lambda row: figure(row["top1_percent"]),
        "px": lambda row: figure(row["resolution"], ".0f"),
        "distilled": lambda row: row["distilled"] if isinstance(row["distilled"], str) else "–",
        "latency ms": lambda row: (
            row["reason"] or f"{figure(row['latency_ms'], '.3f')} ± {figure(row['latency_std_error'], '.3f')}"
        ),
    }
    print_table(table(found.sort_values("latency_ms"), columns))
    of = found[found["shipped"] != ""]
    shipped = f", {len(of)} not by you: they ship with {of['shipped'].iloc[0]}" if len(of) else ""
    say(f"Measured on {where}{shipped}. Top-1 as published, on ImageNet, at px:", style="dim")
    for source in found["top1_source"].dropna().unique():
        of = found.loc[found["top1_source"] == source, "name"]
        say(f"  {source}: {', '.join(name.partition('.')[0] for name in of)}", style="dim")
