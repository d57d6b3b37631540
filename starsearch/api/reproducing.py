"""`reproduce`: tables, figures and claims of the paper, rerun and written beside the published ones."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from starsearch.errors import DataError, SpecError, did_you_mean
from starsearch.files import written_whole
from starsearch.paper.boundaries import find_boundaries
from starsearch.paper.counts import find_counts
from starsearch.paper.finding import Finding, Reproduction, Scale, Setting
from starsearch.paper.latencies import LATENCIES
from starsearch.paper.spans import find_spans
from starsearch.paper.trainings import TABLES
from starsearch.progress import Progress, follow

REPRODUCTIONS: Mapping[str, Reproduction] = {
    "section3": Reproduction(
        title="Sections 3.1 to 3.3: implicit dimensions",
        claim="One star layer of d inputs spans (d+2)(d+1)/2 dimensions.",
        find=find_spans,
    ),
    "figure2": Reproduction(
        title="Figure 2: decision boundaries",
        claim="Stars draw better boundaries than sums, and draw them as a polynomial kernel does.",
        find=find_boundaries,
    ),
    "table5": Reproduction(
        title="Table 5: sizes of the StarNets",
        claim="S1 to S4 have 2.9 to 7.5 M parameters and 425 to 1075 MFLOPs.",
        find=find_counts,
    ),
    **TABLES,
    **LATENCIES,
}
_RESULTS = "results.json"
_MISPRINTS = "misprints.md"


def reproduce(
    names: Sequence[str],
    *,
    scale: Scale = "small",
    seeds: int = 3,
    data: str | None = None,
    epochs: int | None = None,
    out: str | Path = "studies/paper",
    say: Callable[[str], None] = lambda _line: None,
    watch: Callable[[Progress], None] = lambda _progress: None,
) -> dict[str, Finding]:
    """Rerun parts of the paper; write NAME.csv, its picture and README.md, after each.

    Trainings are kept one by one as they end, so that the same call goes on where it was stopped.

    Args:
        names: of `REPRODUCTIONS`, or "all".
        scale: "small" trains on CIFAR-10 for minutes a network, "paper" on ImageNet by the paper's recipe.
        seeds: how often each training is repeated.
        data: what is trained on, as `starsearch run` takes it.
        epochs: of each training, in place of the scale's.
        out: a folder.
        say: called before and after each.
        watch: called with progress.

    Raises:
        SpecError: an unknown name.
        DataError: trainings without data.
    """
    names = list(REPRODUCTIONS) if "all" in names else list(dict.fromkeys(names))
    for name in names:
        if name not in REPRODUCTIONS:
            near = did_you_mean(name, REPRODUCTIONS)
            raise SpecError(
                f"Nothing of the paper is called {name!r}.{near} Known: {', '.join(REPRODUCTIONS)}, or all."
            )
        if REPRODUCTIONS[name].needs_data and data is None:
            what = "CIFAR-10" if scale == "small" else "ImageNet"
            raise DataError(f"{REPRODUCTIONS[name].title} is trained on images: give the folder of {what} with --data.")
    from starsearch.data import open_data

    dataset = None if data is None else open_data(data)
    folder, findings = Path(out), {}
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        part = REPRODUCTIONS[name]
        minutes = 60 * part.hours * (seeds / 3 if part.needs_data else 1)
        time_needed = f", about {minutes:.0f} min of one core" if minutes and scale == "small" else ""
        say(f"{name}: {part.title}{time_needed}")
        began = time.monotonic()
        setting = Setting(scale=scale, seeds=seeds, data=dataset, folder=folder / "trainings", epochs=epochs)
        found = findings[name] = follow(part.find(setting), watch)
        _write(folder, name, found, scale=scale, seeds=seeds, seconds=time.monotonic() - began)
        say(f"  {found.verdict}: {found.sentence}")
    return findings


def _write(folder: Path, name: str, found: Finding, *, scale: Scale, seeds: int, seconds: float) -> None:
    with written_whole(folder / f"{name}.csv", "the table") as partial:
        found.rows.to_csv(partial, index=False)
    if found.figure is not None:
        found.figure.savefig(folder / f"{name}.png")
    results = folder / _RESULTS
    known = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    # A part of which all trainings were there already took what it took then.
    seconds = max(seconds, known.get(name, {}).get("seconds", 0.0))
    known[name] = {"verdict": found.verdict, "sentence": found.sentence, "scale": scale, "seeds": seeds}
    known[name] |= {"seconds": round(seconds, 1), "picture": found.figure is not None}
    with written_whole(results, "the results") as partial:
        partial.write_text(json.dumps(known, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    with written_whole(folder / "README.md", "the page") as partial:
        partial.write_text(_page(folder, known), encoding="utf-8")


def _page(folder: Path, known: Mapping[str, Mapping[str, object]]) -> str:
    """Return README.md from all results there are."""
    import pandas as pd

    lines = [
        "# The paper, rerun",
        "",
        '"Rewrite the Stars" (CVPR 2024), part by part: `starsearch reproduce NAME --data cifar10/` wrote this page',
        "and what lies beside it. *Published* is the paper's figure on ImageNet; *here* is that of another scale,",
        "where it says so: orders and signs can be compared, levels cannot. Nothing was tuned to agree.",
        "",
        "| part | claim | verdict at this scale | scale, seeds, time |",
        "| --- | --- | --- | --- |",
    ]
    there = [name for name in REPRODUCTIONS if name in known]
    for name in there:
        one, part = known[name], REPRODUCTIONS[name]
        trained = f"{one['scale']}, {one['seeds']} seeds, " if part.needs_data else ""
        facts = f"{trained}{one['seconds']:.0f} s"
        lines.append(f"| [{part.title}](#{name.replace('.', '')}) | {part.claim} | **{one['verdict']}** | {facts} |")
    for name in there:
        part, one = REPRODUCTIONS[name], known[name]
        rows = pd.read_csv(folder / f"{name}.csv")
        rows = rows.astype(object).where(rows.notna(), "")
        lines += ["", f"## {name}", "", f"{part.title}. {one['sentence']}", ""]
        lines += [f"| {' | '.join(map(str, rows.columns))} |", f"|{' --- |' * len(rows.columns)}"]
        cells = (
            [f"{cell:.4g}" if isinstance(cell, float) else str(cell).replace("*", "\\*") for cell in row]
            for row in rows.to_numpy()
        )
        lines += [f"| {' | '.join(row)} |" for row in cells]
        lines += ["", f"![{part.title}]({name}.png)"] if one["picture"] else []
    if (misprints := folder / _MISPRINTS).is_file():
        lines += ["", misprints.read_text(encoding="utf-8").rstrip()]
    return "\n".join(lines) + "\n"
