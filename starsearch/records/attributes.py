"""What a trial says of its candidate and measurements: flat user attributes, readable in optuna-dashboard.

Set when it starts: `architecture`, `architecture_text`, `anchor` (of an anchor), `fidelity`, `data`, `seed`, `recipe`
(JSON of the fields that differ from the study's recipe), `initialization` (how the network's weights start),
`retry_of` (the trial it repeats), `continues` (the stopped
trial whose training goes on in it), `promoted_from` (the candidate's trial at the fidelity below).
Set when it ends: `measurements` (names), and of each NAME, NAME_spread, NAME_runs and NAME_device where there
are such; of a predicted one NAME, NAME_kind ("predicted"), NAME_low, NAME_high and NAME_device.
Then `seconds`, `weights`; of a stopped trial `rung` (from 0) and `epochs`; of a failed trial `reason`, and
`interrupted` where the candidate was not at fault.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from starsearch.candidate import Candidate
from starsearch.families.text import architecture_hash, format_architecture, parse_architecture
from starsearch.measurement import Measurement, Prediction, Reading
from starsearch.recipe import Recipe, changed_fields

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from starsearch.study.spec import StudySpec

DRIVER_DIED = "The driver died while it was evaluated."
PREDICTED = "predicted"
# What stands beside a reading NAME, as NAME_spread …; some only in tables.
NUMBER_SUFFIXES = ("_spread", "_runs", "_predicted", "_low", "_high", "_error_percent")
TEXT_SUFFIXES = ("_device", "_kind")
READING_SUFFIXES = (*NUMBER_SUFFIXES, *TEXT_SUFFIXES)
CONSTRAINT_PREFIX = "constraints:"


def candidate_attributes(candidate: Candidate, *, spec: StudySpec) -> dict[str, Any]:
    """The attributes with which a trial of `candidate` starts."""
    attributes: dict[str, Any] = {
        "architecture": architecture_hash(candidate.architecture),
        "architecture_text": format_architecture(candidate.architecture),
        "fidelity": spec.fidelity.name,
        "fidelity_settings": json.dumps(asdict(spec.fidelity)),
        "data": spec.data,
        "seed": spec.seed,
        "initialization": candidate.recipe.initialization,
        "recipe": json.dumps(dict(changed_fields(candidate.recipe, spec.recipe)), sort_keys=True),
    }
    if candidate.anchor is not None:
        attributes["anchor"] = candidate.anchor
    return attributes


def is_foreign(trial: FrozenTrial) -> bool:
    """Whether another program has made `trial`, or ended it in place of its driver: plain Optuna, a dashboard's button.

    Such a trial says nothing of a candidate, and is left as it is.
    """
    if "architecture" not in trial.user_attrs or trial.state.name == "WAITING":
        return True
    return trial.state.name in ("COMPLETE", "PRUNED") and "measurements" not in trial.user_attrs


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


def reading_attributes(readings: Iterable[Reading]) -> dict[str, Any]:
    """The attributes that hold `readings`, their names under "measurements"."""
    readings = list(readings)
    attributes: dict[str, Any] = {"measurements": [one.name for one in readings]}
    for one in readings:
        attributes |= _prediction(one) if isinstance(one, Prediction) else measurement_attributes(one)
    return attributes


def measurement_attributes(one: Measurement) -> dict[str, Any]:
    """The attributes that hold one measurement."""
    attributes: dict[str, Any] = {one.name: float(one.value)}
    if one.spread is not None:
        attributes[f"{one.name}_spread"] = float(one.spread)
    if one.runs > 1:
        attributes[f"{one.name}_runs"] = int(one.runs)
    if one.device is not None:
        attributes[f"{one.name}_device"] = one.device
    return attributes


def recorded_measurements(trial: FrozenTrial) -> tuple[Reading, ...]:
    """What `reading_attributes` wrote on a complete or stopped trial."""
    return tuple(recorded_reading(trial.user_attrs, name) for name in trial.user_attrs.get("measurements", ()))


def reading_names(keys: Iterable[str]) -> list[str]:
    """Of attributes' keys or a table's columns, those that are not another's with a suffix of `READING_SUFFIXES`."""
    keys = list(keys)
    beside = {key + suffix for key in keys for suffix in READING_SUFFIXES}
    return [key for key in keys if key not in beside]


def recorded_reading(found: Mapping[str, Any], name: str) -> Reading:
    """The reading `name` that the attributes `found` hold."""
    if found.get(f"{name}_kind") == PREDICTED:
        return Prediction(
            name=name,
            value=found[name],
            low=found[f"{name}_low"],
            high=found[f"{name}_high"],
            device=found[f"{name}_device"],
            parts=found.get(f"{name}_parts", {}),
        )
    return Measurement(
        name=name,
        value=found[name],
        runs=int(found.get(f"{name}_runs", 1)),
        spread=found.get(f"{name}_spread"),
        device=found.get(f"{name}_device"),
    )


def _prediction(one: Prediction) -> dict[str, Any]:
    return {
        one.name: float(one.value),
        f"{one.name}_kind": PREDICTED,
        f"{one.name}_low": float(one.low),
        f"{one.name}_high": float(one.high),
        f"{one.name}_device": one.device,
        **({f"{one.name}_parts": dict(one.parts)} if one.parts else {}),
    }


def constraint_attributes(constraints: Mapping[str, float]) -> dict[str, float]:
    """The system attributes as which Optuna keeps what `Trial.set_constraint` is told."""
    return {f"{CONSTRAINT_PREFIX}{name}": float(value) for name, value in constraints.items()}


def sampler_attributes(trial: FrozenTrial) -> dict[str, Any]:
    """What the sampler noted on `trial` (a generation, …): system attributes that are no constraints.

    The parameters with which a trial was enqueued are left out; they are the trial's.
    """
    return {
        key: value
        for key, value in trial.system_attrs.items()
        if not key.startswith(CONSTRAINT_PREFIX) and key != "fixed_params"
    }


def unfinished(trials: Iterable[FrozenTrial]) -> Iterator[FrozenTrial]:
    """The trials that were interrupted or whose driver died, and that no later trial repeats."""
    trials = list(trials)
    repeated = {trial.user_attrs.get("retry_of") for trial in trials}
    for trial in trials:
        if trial.user_attrs.get("interrupted") and trial.number not in repeated:
            yield trial
