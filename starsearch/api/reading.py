"""Looking at a study: status, front, report, dashboard. Only the dashboard's notes are written to the storage."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.api.study_folder import StudyPlace, fidelity_places, place_of
from starsearch.errors import StudyError

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.objective import Objective
    from starsearch.report import Agreement


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontView:
    """A study's front at its highest fidelity that has a result, ready to be printed.

    Attributes:
        place: of the study at that fidelity.
        trials: every trial, a row each.
        front: the non-dominated trials and all anchors.
        objectives: what was optimised.
        summary: counts, time, hypervolumes.
        knee: number of the trial at the front's knee; None where there is no front.
        lower: the fronts at the fidelities below it, the nearest first.
    """

    place: StudyPlace
    trials: pd.DataFrame
    front: pd.DataFrame
    objectives: tuple[Objective, ...]
    summary: dict[str, Any]
    knee: int | None
    lower: tuple[FrontView, ...] = ()


def study_front(study: str) -> FrontView:
    """The front of the study that `study` names.

    Raises:
        StudyError: no such study.
    """
    return view_of(place_of(study))


def view_of(place: StudyPlace) -> FrontView:
    """The front of the study at `place`."""
    views = [_view_at(one) for one in fidelity_places(place)]
    while len(views) > 1 and not (views[-1].trials["state"] == "COMPLETE").any():
        views.pop()
    return replace(views[-1], lower=tuple(reversed(views[:-1])))


def _view_at(place: StudyPlace) -> FrontView:
    """The front of the study at `place` at its one fidelity."""
    from starsearch.records import load_objectives, load_trials
    from starsearch.report import front_table, knee, summary

    trials = load_trials(place.url, place.name, folder=place.folder)
    objectives = load_objectives(place.url, place.name)
    front = front_table(trials, objectives)
    return FrontView(
        place=place,
        trials=trials,
        front=front,
        objectives=objectives,
        summary=summary(trials, objectives),
        knee=knee(front, objectives) if front["on_front"].any() else None,
    )


def agreements(view: FrontView) -> list[Agreement]:
    """How far each fidelity of a study can be trusted for the one above it, from the highest pair down."""
    from starsearch.report import compare_fidelities

    views = (view, *view.lower)
    found = (
        compare_fidelities(lower.trials, upper.trials, upper.objectives) for upper, lower in itertools.pairwise(views)
    )
    return [one for one in found if one is not None]


def ladder_lines(place: StudyPlace, *, upper: str) -> list[str]:
    """What was seen of the fidelity below the study `upper`, in sentences; none where too few were judged at both."""
    from starsearch.report import agreement_lines, compare_fidelities

    places = fidelity_places(place)
    at = [one.name for one in places].index(upper)
    if at == 0:
        return []
    lower, higher = (_view_at(places[index]) for index in (at - 1, at))
    found = compare_fidelities(lower.trials, higher.trials, higher.objectives)
    return [] if found is None else agreement_lines(found)


def study_status(study: str) -> dict[str, Any]:
    """Counts, failures, best values, time, and who works on the study, as plain values.

    Raises:
        StudyError: no such study.
    """
    from starsearch.report import agreement_lines

    place = place_of(study)
    whole = view_of(place)
    found = _status_of(whole)
    others = [one for one in fidelity_places(place) if one.name != whole.place.name]
    if others:  # also one that has begun and has no result yet
        found["fidelities"] = [_status_of(_view_at(one)) for one in others]
        found["agreement"] = [line for one in agreements(whole) for line in agreement_lines(one)]
        for other in found["fidelities"]:
            found["driver"] = found["driver"] or other["driver"]
    return found


def _status_of(view: FrontView) -> dict[str, Any]:
    """A study at one fidelity in plain values."""
    from starsearch.records import HALVING, load_attributes, shown, working_driver
    from starsearch.report import halving_lines

    place = view.place
    attributes = load_attributes(place.url, place.name)
    driver = working_driver(place.url, place.name)
    failed = view.trials[view.trials["state"] == "FAIL"]
    running = view.trials[view.trials["state"] == "RUNNING"]
    return {
        "study": place.name,
        "fidelity": attributes.get("fidelity"),
        "storage": shown(place.url),
        **view.summary,
        "halving": halving_lines(view.trials, attributes.get(HALVING)),
        "running": [int(number) for number in running["number"]],
        "failures": [
            {"trial": int(row["number"]), "architecture": row["architecture_text"], "reason": row["reason"]}
            for row in failed.to_dict("records")
        ],
        "driver": f"process {driver.pid} on {driver.host} since {driver.since}" if driver else None,
    }


def write_study_report(study: str) -> list[Path]:
    """Write trials.csv, front.csv, front.png and report.html into the study's folder.

    Raises:
        StudyError: no such study, or nowhere to write.
    """
    return write_report_at(place_of(study))


def write_report_at(place: StudyPlace) -> list[Path]:
    """As `write_study_report`, for a study whose place is known."""
    from starsearch.records import HALVING, load_attributes
    from starsearch.report import Rung, anchor_recipe_note, halving_lines, write_report

    if place.folder is None:
        raise StudyError("A report is written into the study's folder: name the folder, not the storage.")
    view = view_of(place)
    attributes = load_attributes(view.place.url, view.place.name)
    facts = _facts(view.place, attributes)
    if lines := halving_lines(view.trials, attributes.get(HALVING)):
        facts["successive halving"] = " ".join(lines).removeprefix("Successive halving ")
    if (note := anchor_recipe_note(view.trials)) is not None:
        facts["published networks"] = note
    commands = (attributes["command"],) if "command" in attributes else ()
    lower = [Rung(study=one.place.name, trials=one.trials, front=one.front) for one in view.lower]
    files = write_report(
        place.folder,
        view.trials,
        view.objectives,
        facts,
        commands=commands,
        lower=lower,
        agreements=agreements(view),
    )
    return list(files)


def serve_dashboard(study: str, *, port: int = 8080) -> None:
    """Serve optuna-dashboard on the loopback interface until Ctrl-C.

    Raises:
        StudyError: no such study, or the port is taken.
    """
    import socket

    from optuna_dashboard import run_server

    from starsearch.records import open_storage, show_constraints

    place = place_of(study)
    view_of(place)  # complain about a missing or damaged study before a server is up
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            raise StudyError(f"Port {port} is taken on this machine. Give another with --port.")
    run_server(show_constraints(open_storage(place.url)), host="127.0.0.1", port=port)


def _facts(place: StudyPlace, attributes: dict[str, Any]) -> dict[str, str]:
    """What a reader wants to know of a study besides its trials."""
    signature: dict[str, str] = attributes.get("signature", {})
    facts = {"study": place.name, "data": signature.get("data", ""), "device": signature.get("device", "")}
    facts["fidelity"] = _join(signature, "fidelity.")
    facts["recipe"] = _join(signature, "recipe.")
    facts["space"] = _join(signature, "space.")
    facts["constraints"] = _join(signature, "constraints.")
    facts["latency predicted from"] = _join(signature, "profiles.")
    facts["sampler"] = attributes.get("sampler", "")
    facts["seed"] = signature.get("seed", "")
    facts["starsearch"] = attributes.get("starsearch", "")
    return {name: value for name, value in facts.items() if value}


def _join(signature: dict[str, str], prefix: str) -> str:
    found = {key.removeprefix(prefix): text for key, text in signature.items() if key.startswith(prefix)}
    return ", ".join(f"{key}: {value}" for key, value in found.items() if value != "None")
