"""What a trial says of its candidate and measurements: flat user attributes, readable in optuna-dashboard.

Set when it starts: `architecture`, `architecture_text`, `anchor` (of an anchor), `fidelity`, `data`, `seed`, `recipe`
(JSON of the fields that differ from the study's recipe), `retry_of` (the trial it repeats).
Set when it ends: `measurements` (names), and of each NAME, NAME_spread, NAME_runs and NAME_device where there
are such; `seconds`, `weights`; of a failed trial `reason`, and `interrupted` where the candidate was not at fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from starsearch.architecture import architecture_hash, format_architecture, parse_architecture
from starsearch.candidate import Candidate
from starsearch.measurement import Measurement
from starsearch.recipe import Recipe, changed_fields

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.study.spec import StudySpec

DRIVER_DIED = "The driver died while it was evaluated."
_CONSTRAINT_PREFIX = "constraints:"


def candidate_attributes(candidate: Candidate, *, spec: StudySpec, retry_of: int | None) -> dict[str, Any]:
    """The attributes with which a trial of `candidate` starts."""
    attributes: dict[str, Any] = {
        "architecture": architecture_hash(candidate.architecture),
        "architecture_text": format_architecture(candidate.architecture),
        "fidelity": spec.fidelity.name,
        "fidelity_settings": json.dumps(asdict(spec.fidelity)),
        "data": spec.data,
        "seed": spec.seed,
        "recipe": json.dumps(dict(changed_fields(candidate.recipe, spec.recipe)), sort_keys=True),
    }
    if candidate.anchor is not None:
        attributes["anchor"] = candidate.anchor
    if retry_of is not None:
        attributes["retry_of"] = retry_of
    return attributes


def recorded_candidate(trial: FrozenTrial, base: Recipe) -> Candidate:
    """The candidate that `trial` evaluates; `base` is the study's recipe.

    Raises:
        ArchitectureError: the recorded text is of a version whose fields this one does not know.
    """
    changed = json.loads(trial.user_attrs["recipe"])
    for name, value in changed.items():
        if isinstance(value, list):  # JSON knows no tuples
            changed[name] = tuple(value)
    return Candidate(
        architecture=parse_architecture(trial.user_attrs["architecture_text"]),
        recipe=replace(base, **changed),
        anchor=trial.user_attrs.get("anchor"),
    )


def measurement_attributes(measurements: Iterable[Measurement]) -> dict[str, Any]:
    """The attributes that hold `measurements`."""
    attributes: dict[str, Any] = {}
    names = []
    for one in measurements:
        names.append(one.name)
        attributes[one.name] = float(one.value)
        if one.spread is not None:
            attributes[f"{one.name}_spread"] = float(one.spread)
        if one.runs > 1:
            attributes[f"{one.name}_runs"] = int(one.runs)
        if one.device is not None:
            attributes[f"{one.name}_device"] = one.device
    return {"measurements": names, **attributes}


def recorded_measurements(trial: FrozenTrial) -> tuple[Measurement, ...]:
    """What `measurement_attributes` wrote on a complete trial."""
    found = trial.user_attrs
    return tuple(
        Measurement(
            name=name,
            value=found[name],
            runs=found.get(f"{name}_runs", 1),
            spread=found.get(f"{name}_spread"),
            device=found.get(f"{name}_device"),
        )
        for name in found.get("measurements", ())
    )


def constraint_attributes(constraints: Mapping[str, float]) -> dict[str, float]:
    """The system attributes as which Optuna keeps what `Trial.set_constraint` is told."""
    return {f"{_CONSTRAINT_PREFIX}{name}": float(value) for name, value in constraints.items()}


def sampler_attributes(trial: FrozenTrial) -> dict[str, Any]:
    """What the sampler noted on `trial` (a generation, …): system attributes that are no constraints.

    The parameters with which a trial was enqueued are left out; they are the trial's.
    """
    return {
        key: value
        for key, value in trial.system_attrs.items()
        if not key.startswith(_CONSTRAINT_PREFIX) and key != "fixed_params"
    }


def unfinished(trials: Iterable[FrozenTrial]) -> Iterator[FrozenTrial]:
    """The trials that were interrupted or whose driver died, and that no later trial repeats.

    A candidate with which two drivers in a row have died is left out: it may be what kills them.
    """
    by_number = {trial.number: trial for trial in trials}
    repeated = {trial.user_attrs.get("retry_of") for trial in by_number.values()}
    for trial in by_number.values():
        before = by_number.get(trial.user_attrs.get("retry_of", -1))
        kills = _has_died(trial) and before is not None and _has_died(before)
        if trial.user_attrs.get("interrupted") and trial.number not in repeated and not kills:
            yield trial


def is_feasible(trial: FrozenTrial) -> bool:
    """Whether the trial is complete and breaks no constraint."""
    return trial.state.name == "COMPLETE" and all(value <= 0 for value in trial.constraints.values())


def _has_died(trial: FrozenTrial) -> bool:
    return trial.user_attrs.get("reason") == DRIVER_DIED
