"""`starsearch run`: the run with its live view, and what is printed at its end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch import api
from starsearch.api.running import parse_duration
from starsearch.errors import StudyError

if TYPE_CHECKING:
    from starsearch.api import RunOutcome


def run_and_watch(
    file: str,
    *,
    data: str | None,
    runner: str | None,
    trials: int | None,
    time_budget: str | None,
    storage: str | None,
    name: str | None,
    out: Path,
    seed: int | None,
    settings: Sequence[str] = (),
) -> None:
    """Run the study under a live view, then print its front and how to go on."""
    from starsearch.cli.live import LiveView
    from starsearch.cli.printing import print_front

    outcome = api.run_study_file(
        file,
        out=out,
        data=data,
        runner=runner,
        trials=trials,
        time_budget_s=None if time_budget is None else parse_duration(time_budget),
        storage=storage,
        name=name,
        seed=seed,
        settings=settings,
        say=_say,
        view=lambda spec, folder: LiveView(spec.objectives, title=f"{spec.name} in {folder}"),
    )
    view = api.study_front(str(outcome.folder))
    print_front(view, with_agreement=False)  # it was said as each fidelity ended
    miss = view.summary["miss"] or {}
    choice = "--knee" if view.knee is not None else f"--trial {miss['number']}" if miss.get("weights") else None
    _print_end(outcome, choice)
    is_over = outcome.ended.why in ("complete", "space exhausted")
    if is_over and not (view.trials["state"] == "COMPLETE").any():
        raise StudyError("No trial is complete: every candidate failed, with the reasons above.")


def _say(line: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(line, markup=False)


def _print_end(outcome: RunOutcome, choice: str | None) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    ended, study = outcome.ended, outcome.folder
    progress = f"{ended.finished} of {ended.wanted} trials"
    match ended.why:
        case "complete":
            console.print(f"Done: {progress}.")
        case "space exhausted":
            console.print(f"Done: {progress}; every architecture of the space has been tried.")
        case _:
            because = "Interrupted" if ended.why == "interrupted" else "The time budget is spent"
            console.print(f"{because}: {progress}. Nothing finished is lost; the same command goes on.")
    console.print("Written: " + ", ".join(str(path) for path in outcome.files))
    console.print(f"Next:    starsearch dashboard {study}")
    if choice is not None:
        console.print(f"         starsearch export {study} {choice} --format timm,onnx --out best")
