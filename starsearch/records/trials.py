"""A `Trial` as Optuna keeps it: parameters, intermediate values and user attributes that optuna-dashboard shows.

Set when it starts: `architecture` (its hash, "@RESOLUTION" behind it where its resolution is not the space's),
`architecture_text`, `anchor`, `resolution`, `recipe` (JSON of the fields that differ from the study's), and the
numbers of other trials `retry_of`, `continues`, `promoted_from`. Each costs two
statements of SQL, so what Optuna keeps (values, how long it took) and what the study's spec says (data, seed, fidelity)
is not repeated.
Set when it ends: all that is known of each reading under `readings`, and its value by its name where it is not one of
a complete trial's values, which the study's metric names name; `weights`; of a stopped trial `rung` (from 0) and
`epochs`; of a failed one `reason`, and `lost` where it runs again, `untrained` where it
stopped before its training.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, cast

from starsearch.candidate import Candidate
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.measurement import Measurement, Prediction, Reading
from starsearch.recipe import changed_fields
from starsearch.space.parameters import FloatParameter, IntParameter, Parameter
from starsearch.study.spec import StudySpec
from starsearch.trial import State, Trial

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

CONSTRAINT = "constraints:"  # Optuna's prefix of what `optuna.trial.Trial.set_constraint` is told
_LINKS = ("retry_of", "continues", "promoted_from")


def parameter_distributions(parameters: Iterable[Parameter]) -> dict[str, BaseDistribution]:
    """Return Optuna's distribution for each parameter, by name, in the parameters' order."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        one.name: IntDistribution(one.low, one.high, log=one.log, step=one.step)
        if isinstance(one, IntParameter)
        else FloatDistribution(one.low, one.high, log=one.log, step=one.step)
        if isinstance(one, FloatParameter)
        else CategoricalDistribution(one.choices)
        for one in parameters
    }


def started_attributes(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Return the user attributes with which a trial starts."""
    candidate = trial.candidate
    links = {name: getattr(trial, name) for name in _LINKS}
    found = {
        "architecture": candidate.network,
        "architecture_text": format_architecture(candidate.architecture),
        "anchor": candidate.anchor,
        "resolution": candidate.resolution,
        "recipe": recipe_text(trial, spec),
        **links,
    }
    return {name: value for name, value in found.items() if value not in (None, "{}")}


def recipe_text(trial: Trial, spec: StudySpec) -> str:
    """Return as JSON which fields of a trial's recipe differ from the study's."""
    return json.dumps(dict(changed_fields(trial.candidate.recipe, spec.recipe)), sort_keys=True)


def ended_attributes(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Return the user attributes with which a trial ends."""
    found = {name: getattr(trial, name) for name in ("weights", "reason") if getattr(trial, name) is not None}
    if trial.lost:
        found["lost"] = True
    if trial.readings:
        objectives = {one.name for one in spec.objectives} if trial.state == "complete" else ()
        found |= {name: value for name, value in trial.values.items() if name not in objectives}
        found["readings"] = [{"kind": "measured", **asdict(one), "value": float(one.value)} for one in trial.readings]
    if trial.untrained:
        found["untrained"] = True
    if trial.state == "pruned":
        found |= {"rung": trial.rung, "epochs": trial.epochs}
    return found


def system_attributes(trial: Trial, spec: StudySpec) -> dict[str, Any]:
    """Return a judged trial's broken and kept constraints, and what the sampler noted."""
    violations = trial.violations(spec.constraints).items()
    return {f"{CONSTRAINT}{name}": float(by) for name, by in violations} | dict(trial.noted)


def sampler_attributes(found: FrozenTrial) -> dict[str, Any]:
    """Return what the sampler noted on a trial (a generation, …): not constraints, nor the parameters it was given."""
    said = found.system_attrs.items()
    return {key: value for key, value in said if not key.startswith(CONSTRAINT) and key != "fixed_params"}


def is_foreign(found: FrozenTrial) -> bool:
    """Whether another program has made a trial, or ended it in place of its driver: plain Optuna, a dashboard's button.

    Such a trial says nothing of a candidate, and is left as it is.
    """
    if "architecture_text" not in found.user_attrs or found.state.name == "WAITING":
        return True
    return found.state.name in ("COMPLETE", "PRUNED") and "readings" not in found.user_attrs


def read_trial(found: FrozenTrial, spec: StudySpec) -> Trial:
    """Return a trial of the study of `spec`, with the readings that its evaluation returned."""
    said: Mapping[str, Any] = found.user_attrs
    state = cast("State", found.state.name.lower())
    # A driver that died in between may have left some of the attributes.
    judged = state in ("complete", "pruned") or said.get("untrained", False)
    recipe = json.loads(said.get("recipe", "{}"))  # JSON knows no tuples
    changed: dict[str, Any] = {name: tuple(one) if isinstance(one, list) else one for name, one in recipe.items()}
    plain: dict[str, Any] = {name: said.get(name) for name in (*_LINKS, "weights", "reason")}
    plain |= {name: said.get(name) for name in ("rung", "epochs") if state == "pruned"}
    return Trial(
        candidate=Candidate(
            architecture=parse_architecture(said["architecture_text"]),
            recipe=replace(spec.recipe, **changed),
            anchor=said.get("anchor"),
            resolution=said.get("resolution"),
        ),
        params=found.params,
        number=found.number,
        state=state,
        curve=found.intermediate_values,
        readings=tuple(_read_reading(**one) for one in said["readings"]) if judged else (),
        noted=sampler_attributes(found),
        started=found.datetime_start.astimezone()
        if found.datetime_start
        else None,  # Optuna hands out naive local time
        seconds=0.0 if said.get("lost") or not found.duration else max(found.duration.total_seconds(), 0.0),
        lost=said.get("lost", False),
        untrained=said.get("untrained", False),
        **plain,
    )


def _read_reading(*, kind: Any, **known: Any) -> Reading:
    return Measurement(**known) if kind == "measured" else Prediction(kind=kind, **known)


def show_constraints(storage: BaseStorage) -> BaseStorage:
    """Return `storage`, for optuna-dashboard to read by how much trials break their constraints.

    The dashboard (0.21) looks for the list that Optuna wrote before 5.0, and takes every trial of 5.0 for feasible.
    """
    get_all_trials = storage.get_all_trials

    def get_with_list(*arguments: Any, **options: Any) -> list[FrozenTrial]:
        return [_with_list(trial) for trial in get_all_trials(*arguments, **options)]

    storage.get_all_trials = get_with_list  # type: ignore[method-assign] # for this one storage
    return storage


def _with_list(trial: FrozenTrial) -> FrozenTrial:
    if not trial.constraints:
        return trial
    shown = copy.copy(trial)  # a storage may keep its own
    others = {key: value for key, value in trial.system_attrs.items() if not key.startswith(CONSTRAINT)}
    shown._system_attrs = {**others, "constraints": list(trial.constraints.values())}
    return shown
