"""Reading a study: its trials as a table, its objectives. Nothing here writes."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.errors import ArchitectureError, StudyError, did_you_mean
from starsearch.families.family import count_macs, count_params
from starsearch.families.text import parse_architecture
from starsearch.objective import Objective
from starsearch.records.attributes import READING_SUFFIXES, TEXT_SUFFIXES, is_foreign
from starsearch.records.measured import Measured, measured_afterwards, merge_measured, merge_violations
from starsearch.records.storage import read_storage, shown, storage_file

if TYPE_CHECKING:
    import pandas as pd
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

# Of successive halving: the rung a trial stopped at, the epochs trained there, the trial whose training it continues;
# of a later fidelity: the candidate's trial at the one below.
_HALVING = ("rung", "epochs", "continues")
_COUNTS = (*_HALVING, "promoted_from")
EXCESS = "excess_"  # by how much a trial breaks a constraint: excess_latency_ms.max
_TEXTS = ("state", "fidelity", "anchor", "architecture", "architecture_text", "reason", "data", "weights", "recipe")


def load_trials(url: str, name: str | None = None, *, folder: Path | None = None) -> pd.DataFrame:
    """One row a trial, in order of number.

    Columns: number, state (Optuna's, or FOREIGN: made or ended by another program, so that only number, started and the
    study's fidelity are known), fidelity, anchor, architecture, architecture_text; each measurement by its name, with
    NAME_spread, NAME_runs and NAME_device where any trial has them; published_macs and published_num_params (with
    ImageNet's 1000 classes, as papers count); feasible, excess_NAME.max and excess_NAME.min of each constraint (by how
    much it is broken; kept where ≤ 0), reason, data, seed, started (UTC),
    seconds, weights, params_X of each searched parameter, recipe (JSON of what differs from the study's).
    Where successive halving has stopped trials also rung (from 0) and epochs of those, and continues: the number of the
    stopped trial whose training a trial goes on with. At a later fidelity promoted_from: the number of the candidate's
    trial at the one below.
    Of a predicted quantity also NAME_kind, NAME_predicted, NAME_low, NAME_high and NAME_error_percent; what was
    measured after the trial's end then stands in NAME, and feasible follows it (`starsearch.records.measured`).

    Args:
        url: of the storage.
        name: of the study; may be left out where the storage holds one.
        folder: the study's; where the storage is a file, that file's folder. `weights` is None where the
            file is no longer in it: a trial that leaves the front loses its weights.

    Raises:
        StudyError: no such storage or study, or the storage fails.
    """
    with _read_study(url, name) as (storage, study_id):
        return _recorded(storage, study_id, folder or _folder(url)).trials


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedStudy:
    """A study as its storage holds it: its user attributes, its trials as a table (`load_trials`)."""

    name: str
    attributes: dict[str, Any]
    trials: pd.DataFrame


def load_fidelities(url: str, name: str, *, folder: Path | None = None) -> list[RecordedStudy]:
    """Return a study and those of its later fidelities that have begun, the lowest first; the storage is opened once.

    Raises:
        StudyError: no such storage or study, or the storage fails.
    """
    with _read_study(url, name) as (storage, study_id):
        known = {study.study_name: study._study_id for study in storage.get_all_studies()}
        found = [_recorded(storage, study_id, folder or _folder(url))]
        for later in found[0].attributes.get("ladder", ()):
            if later in known and later != name:
                of_later = None if folder is None else folder / later.removeprefix(f"{name}.")
                found.append(_recorded(storage, known[later], of_later))
    return found


def _recorded(storage: BaseStorage, study_id: int, folder: Path | None) -> RecordedStudy:
    trials = sorted(storage.get_all_trials(study_id, deepcopy=False), key=lambda trial: trial.number)
    attributes = storage.get_study_user_attrs(study_id)
    fidelity = attributes.get("fidelity")
    trials = [_without_claims(trial, fidelity) if is_foreign(trial) else trial for trial in trials]
    resolution = attributes.get("signature", {}).get("space.resolution")
    published = {} if resolution is None else _published_columns(trials, int(resolution))
    table = _table(trials, folder, measured_afterwards(attributes, trials), published)
    table.attrs["fit_options"] = attributes.get("fit_options", {})
    return RecordedStudy(name=storage.get_study_name_from_id(study_id), attributes=attributes, trials=table)


def _without_claims(trial: FrozenTrial, fidelity: str | None) -> FrozenTrial:
    """A foreign trial without parameters and attributes, whatever their names say."""
    shown = copy.copy(trial)  # a storage may keep its own
    shown.params, shown.user_attrs = {}, {"fidelity": fidelity}
    return shown


def load_objectives(url: str, name: str | None = None) -> tuple[Objective, ...]:
    """The objectives the study was begun with, in the order of its trials' values.

    Raises:
        StudyError: no such storage or study, or the study is not starsearch's.
    """
    with _read_study(url, name) as (storage, study_id):
        described = storage.get_study_user_attrs(study_id).get("objectives")
        if described is None:
            study = storage.get_study_name_from_id(study_id)
            raise StudyError(f"The study {study!r} in {shown(url)} was not made by starsearch.")
    return tuple(Objective(**objective) for objective in described)


def load_devices(url: str, name: str | None = None) -> dict[str, str]:
    """What device each latency of the study is of, by name: "this-machine", or a profile's name.

    Raises:
        StudyError: no such storage or study.
    """
    with _read_study(url, name) as (storage, study_id):
        attributes = storage.get_study_user_attrs(study_id)
    known = {one["name"]: one["device"] for one in attributes.get("objectives", ()) if one["device"]}
    devices: dict[str, str] = attributes.get("devices", {})
    return known | devices


def study_names(url: str) -> tuple[str, ...]:
    """The names of the studies in the storage, oldest first.

    Raises:
        StudyError: no such storage, or it fails.
    """
    with read_storage(url) as storage:
        return tuple(study.study_name for study in storage.get_all_studies())


def load_attributes(url: str, name: str) -> dict[str, Any]:
    """The study's user attributes; empty where the storage or the study is not there yet.

    Raises:
        StudyError: the storage fails.
    """
    file = storage_file(url)
    # An empty file is what a driver leaves that was killed before its first word.
    if file is not None and (not file.exists() or file.stat().st_size == 0):
        return {}
    with read_storage(url) as storage:
        if name not in {study.study_name for study in storage.get_all_studies()}:
            return {}
        return dict(storage.get_study_user_attrs(storage.get_study_id_from_name(name)))


@contextmanager
def _read_study(url: str, name: str | None) -> Iterator[tuple[BaseStorage, int]]:
    with read_storage(url) as storage:
        names = [study.study_name for study in storage.get_all_studies()]
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            raise StudyError(f"{shown(url)} holds {len(names)} studies: {', '.join(names)}. Say which, as NAME@URL.")
        if name not in names:
            raise StudyError(
                f"{shown(url)} holds no study {name!r}.{did_you_mean(name, names)} "
                f"It holds: {', '.join(names) or 'none'}."
            )
        yield storage, storage.get_study_id_from_name(name)


def _folder(url: str) -> Path | None:
    file = storage_file(url)
    return file.parent if file else None


def _table(
    trials: list[FrozenTrial], folder: Path | None, measured: Measured, published: Mapping[str, list[float | None]]
) -> pd.DataFrame:
    import pandas as pd

    states = _states(trials)
    readings = [
        merge_measured(trial.user_attrs, measured) if state == "COMPLETE" else trial.user_attrs
        for trial, state in zip(trials, states, strict=True)
    ]
    excesses = [
        merge_violations(trial.constraints, trial.user_attrs, measured) if state == "COMPLETE" else {}
        for trial, state in zip(trials, states, strict=True)
    ]
    quantities = _reading_columns(readings)
    bounds = dict.fromkeys(name for one in excesses for name in one)
    params = list(dict.fromkeys(name for trial in trials for name in trial.params))
    columns = {
        **_identity_columns(trials),
        **{name: [one.get(name) for one in readings] for name in quantities},
        **published,
        "feasible": [
            state == "COMPLETE" and all(by <= 0 for by in excess.values())
            for state, excess in zip(states, excesses, strict=True)
        ],
        **{EXCESS + name: [one.get(name) for one in excesses] for name in bounds},
        **_outcome_columns(trials, folder),
        **_origin_columns(trials),
        **{f"params_{name}": [trial.params.get(name) for trial in trials] for name in params},
        "recipe": [trial.user_attrs.get("recipe", "{}") for trial in trials],
    }
    types: dict[str, Any] = {"number": int, "seed": "Int64", "feasible": bool, "seconds": float}
    types |= {name: "Int64" for name in _COUNTS if name in columns}
    texts = [name for name in quantities if name.endswith(TEXT_SUFFIXES)]
    types |= {name: float for name in (*quantities, *published) if name not in texts}
    types |= {EXCESS + name: float for name in bounds}
    # Texts as objects: pandas' own text columns would turn None into NaN.
    objects = dict.fromkeys([*_TEXTS, *texts], object)
    return pd.DataFrame({name: pd.Series(values, dtype=objects.get(name)) for name, values in columns.items()}).astype(
        types
    )


def _reading_columns(readings: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns of all that was measured or predicted, those of a quantity side by side."""
    names = dict.fromkeys(name for one in readings for name in one.get("measurements", ()))
    present = {key for one in readings for key in one}
    return [name + suffix for name in names for suffix in ("", *READING_SUFFIXES) if name + suffix in present]


def _states(trials: Sequence[FrozenTrial]) -> list[str]:
    return ["FOREIGN" if is_foreign(trial) else trial.state.name for trial in trials]


def _published_columns(trials: Sequence[FrozenTrial], resolution: int) -> dict[str, list[float | None]]:
    """MACs and parameters as papers count them; computed, since they follow from the architecture."""
    costs = [_published_cost(trial.user_attrs.get("architecture_text", ""), resolution) for trial in trials]
    return {"published_macs": [one[0] for one in costs], "published_num_params": [one[1] for one in costs]}


@functools.cache  # a run's page is made again and again
def _published_cost(text: str, resolution: int) -> tuple[float | None, float | None]:
    try:
        architecture = parse_architecture(text)
    except ArchitectureError:  # of a foreign trial, or of another version
        return None, None
    return count_macs(architecture, resolution=resolution), count_params(architecture)


def _identity_columns(trials: list[FrozenTrial]) -> dict[str, list[Any]]:
    described = ("fidelity", "anchor", "architecture", "architecture_text")
    return {
        "number": [trial.number for trial in trials],
        "state": _states(trials),
        **{name: [trial.user_attrs.get(name) for trial in trials] for name in described},
    }


def _outcome_columns(trials: list[FrozenTrial], folder: Path | None) -> dict[str, Any]:
    import pandas as pd

    # Optuna hands out naive local time.
    started = [trial.datetime_start.astimezone() if trial.datetime_start else pd.NaT for trial in trials]
    return {
        "reason": [trial.user_attrs.get("reason") for trial in trials],
        "data": [trial.user_attrs.get("data") for trial in trials],
        "seed": [trial.user_attrs.get("seed") for trial in trials],
        "started": pd.to_datetime(pd.Series(started, dtype=object), utc=True),
        "seconds": [trial.user_attrs.get("seconds") for trial in trials],
        "weights": [_weights(trial, folder) for trial in trials],
    }


def _origin_columns(trials: list[FrozenTrial]) -> dict[str, Any]:
    """Those of successive halving where any trial was stopped, that of promotion where any candidate was promoted."""
    wanted: tuple[str, ...] = _HALVING if any("rung" in trial.user_attrs for trial in trials) else ()
    wanted += ("promoted_from",) if any("promoted_from" in trial.user_attrs for trial in trials) else ()
    return {name: [trial.user_attrs.get(name) for trial in trials] for name in wanted}


def _weights(trial: FrozenTrial, folder: Path | None) -> str | None:
    file: str | None = trial.user_attrs.get("weights")
    if file is None or (folder is not None and not (folder / file).is_file()):
        return None
    return file
