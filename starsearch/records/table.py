"""Reading studies: their specs, and their trials as tables. Nothing here writes."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.errors import StudyError, did_you_mean
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import format_architecture
from starsearch.measurement import Measurement, Prediction, Reading, prediction_error_percent
from starsearch.records.measured import measured_afterwards
from starsearch.records.record import FIDELITIES, refuse_other_maker
from starsearch.records.storage import read_storage, shown, storage_file
from starsearch.records.trials import is_foreign, read_trial, recipe_text
from starsearch.resolution import Resolution
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

if TYPE_CHECKING:
    import pandas as pd
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

EXCESS = "excess_"  # by how much a trial breaks a constraint: excess_latency_ms.max
FOREIGN, CUT_OFF, NOT_TRAINED = "FOREIGN", "INTERRUPTED", "UNTRAINED"
# What stands beside a reading NAME, as NAME_spread …
_NUMBERS = ("_spread", "_runs", "_predicted", "_low", "_high", "_error_percent")
_TEXTS = ("_device", "_kind")
READING_SUFFIXES = (*_NUMBERS, *_TEXTS)
_FIRST = ("number", "state", "fidelity", "anchor", "architecture", "architecture_text")
_LAST = ("reason", "data", "seed", "started", "seconds", "weights")
_COUNTS = ("seed", "rung", "epochs", "continues", "promoted_from", "retry_of")


@dataclass(frozen=True, kw_only=True)
class RecordedStudy:
    """A study as its storage holds it.

    Attributes:
        spec: what it was begun with.
        attributes: what else its record says: command, conditions, classes, preprocessing, reference.
        trials: one row each.
        url: its storage's.
        folder: the one of its weights and logs; None for a study named by its storage alone.

    Columns of `trials`: number, state (Optuna's; INTERRUPTED: cut off by a signal or with its worker, and run again, at
    the latest when the study goes on; UNTRAINED: for it breaks a constraint, as was known before; FOREIGN: made or
    ended by another program, so that only number, started and the study's fidelity are known), fidelity, anchor,
    architecture, architecture_text; each reading by its name, with NAME_spread, NAME_runs and NAME_device where any
    trial has them; published_macs and published_num_params (with ImageNet's 1000 classes, as papers count); feasible,
    excess_NAME.max and excess_NAME.min of each constraint (by how much it is broken; kept where ≤ 0), reason, data,
    seed, started (UTC), seconds, weights (None where the file is no longer there: a trial that leaves the front loses
    its weights), params_X of each searched parameter, recipe (JSON of what differs from the study's). Where successive
    halving has stopped trials also rung (from 0) and epochs of those, and continues: the number of the stopped trial
    whose training a trial continues. At a later fidelity promoted_from: the number of the candidate's trial at the one
    below. Where any trial repeats an INTERRUPTED one retry_of: its number. Of a predicted quantity also NAME_kind,
    NAME_predicted, NAME_low, NAME_high and NAME_error_percent; what was measured after the trial's end then stands in
    NAME, and feasible follows it (`starsearch.records.measured`).
    """

    name: str
    spec: StudySpec
    attributes: dict[str, Any]
    trials: pd.DataFrame
    url: str
    folder: Path | None


def load_study(url: str, name: str | None = None, *, folder: Path | None = None) -> RecordedStudy:
    """Return the study `name` of a storage, or its only one; `folder` is that of its weights."""
    with _read_study(url, name) as (storage, found):
        return _recorded(storage, url, found, folder)


def load_fidelities(url: str, name: str | None = None, *, folder: Path | None = None) -> list[RecordedStudy]:
    """Return a study and its later fidelities that have begun, the lowest first; the storage is opened once."""
    with _read_study(url, name) as (storage, first):
        there = _names(storage)
        found = [_recorded(storage, url, first, folder)]
        for later in found[0].attributes.get(FIDELITIES, ()):
            if later in there and later != first:
                of_later = None if folder is None else folder / later.removeprefix(f"{first}.")
                found.append(_recorded(storage, url, later, of_later))
        return found


def load_trials(url: str, name: str | None = None, *, folder: Path | None = None) -> pd.DataFrame:
    """Return the trials of `load_study`."""
    return load_study(url, name, folder=folder).trials


def study_names(url: str) -> tuple[str, ...]:
    """Return the names of the studies in the storage, oldest first."""
    with read_storage(url) as storage:
        return tuple(_names(storage))


def count_ended(url: str, name: str) -> int:
    """Return how many trials of a study and its later fidelities have ended, without reading them."""
    from optuna.trial import TrialState

    ended = tuple(state for state in TrialState if state.is_finished())
    with read_storage(url) as storage:
        names = [one for one in _names(storage) if f"{one}.".startswith(f"{name}.")]
        return sum(storage.get_n_trials(storage.get_study_id_from_name(one), state=ended) for one in names)


def load_attributes(url: str, name: str) -> dict[str, Any]:
    """Return the study's user attributes; empty where the storage or the study is not there yet."""
    file = storage_file(url)
    # An empty file is what a driver leaves that was killed before its first word.
    if file is not None and (not file.exists() or file.stat().st_size == 0):
        return {}
    with read_storage(url) as storage:
        if name not in _names(storage):
            return {}
        return dict(storage.get_study_user_attrs(storage.get_study_id_from_name(name)))


def _names(storage: BaseStorage) -> list[str]:
    return [study.study_name for study in storage.get_all_studies()]


@contextmanager
def _read_study(url: str, name: str | None) -> Iterator[tuple[BaseStorage, str]]:
    with read_storage(url) as storage:
        names = _names(storage)
        if name is None and len(names) == 1:
            name = names[0]
        if name is None:
            raise StudyError(f"{shown(url)} holds {len(names)} studies: {', '.join(names)}. Say which, as NAME@URL.")
        if name not in names:
            raise StudyError(
                f"{shown(url)} holds no study {name!r}.{did_you_mean(name, names)} "
                f"It holds: {', '.join(names) or 'none'}."
            )
        yield storage, name


def _recorded(storage: BaseStorage, url: str, name: str, folder: Path | None) -> RecordedStudy:
    study_id = storage.get_study_id_from_name(name)
    attributes = storage.get_study_user_attrs(study_id)
    refuse_other_maker(url, name, attributes)
    spec = StudySpec.from_json(attributes["spec"])
    found = sorted(storage.get_all_trials(study_id, deepcopy=False), key=lambda one: one.number)
    file = storage_file(url)
    trials = make_table(found, spec, attributes, folder or (file and file.parent))
    return RecordedStudy(name=name, spec=spec, attributes=attributes, trials=trials, url=url, folder=folder)


def make_table(
    found: Iterable[FrozenTrial], spec: StudySpec, attributes: Mapping[str, Any], folder: Path | None
) -> pd.DataFrame:
    """Return the table of `RecordedStudy`."""
    import pandas as pd

    trials = [_foreign_row(one, spec) if is_foreign(one) else read_trial(one, spec) for one in found]
    own = [one for one in trials if isinstance(one, Trial)]
    measured = measured_afterwards(attributes, own)
    rows = [
        _row(one, measured.latest(one) if one.state == "complete" else one, spec, folder)
        if isinstance(one, Trial)
        else one
        for one in trials
    ]
    names = dict.fromkeys(one.name for trial in own for one in (*trial.readings, *measured.latest(trial).readings))
    keys = {key for row in rows for key in row}
    readings = [name + end for name in names for end in ("", *READING_SUFFIXES) if name + end in keys]
    excesses = list(dict.fromkeys(key for row in rows for key in row if key.startswith(EXCESS)))
    published = ["published_macs", "published_num_params"]
    halving = ["rung", "epochs", "continues"] if any(one.state == "pruned" for one in own) else []
    links = [name for name in ("promoted_from", "retry_of") if name in keys]
    params = list(dict.fromkeys(key for row in rows for key in row if key.startswith("params_")))
    columns = [
        *_FIRST, *readings, *published, "feasible", *excesses, *_LAST, *halving, *links, *params, "recipe"
    ]  # fmt: skip
    # As objects first: pandas' own text columns would turn None into NaN.
    table = pd.DataFrame(rows, columns=columns, dtype=object)
    texts = [name for name in readings if name.endswith(_TEXTS)]
    floats = [name for name in (*readings, *published, *excesses, "seconds") if name not in texts]
    types: dict[str, Any] = {"number": int, "feasible": bool}
    types |= dict.fromkeys(floats, float) | {name: "Int64" for name in _COUNTS if name in columns}
    table = table.where(table.notna(), None).astype(types)
    table["started"] = pd.to_datetime(table["started"], utc=True)
    table[params] = table[params].infer_objects()
    return table


def _foreign_row(found: FrozenTrial, spec: StudySpec) -> dict[str, Any]:
    started = found.datetime_start.astimezone() if found.datetime_start else None
    row = {"number": found.number, "state": FOREIGN, "fidelity": spec.fidelity.name, "started": started}
    return row | {"feasible": False, "recipe": "{}"}


def _row(trial: Trial, latest: Trial, spec: StudySpec, folder: Path | None) -> dict[str, Any]:
    """Return the cells of a trial; `latest` is the same trial with what was measured or corrected later."""
    architecture = trial.candidate.architecture
    has_weights = trial.weights is not None and (folder is None or (folder / trial.weights).is_file())
    macs, num_params = _published_cost(architecture, trial.candidate.resolution or spec.space.resolution)
    links = {name: getattr(trial, name) for name in ("rung", "epochs", "continues", "promoted_from", "retry_of")}
    excess = latest.violations(spec.constraints) if trial.state == "complete" or trial.untrained else {}
    return {
        "number": trial.number,
        "state": CUT_OFF if trial.lost else NOT_TRAINED if trial.untrained else trial.state.upper(),
        "fidelity": spec.fidelity.name,
        "anchor": trial.candidate.anchor,
        "architecture": trial.candidate.network,
        "architecture_text": format_architecture(architecture),
        **{key: cell for one in latest.readings for key, cell in _cells(one, trial.reading(one.name)).items()},
        "published_macs": macs,
        "published_num_params": num_params,
        "feasible": trial.state == "complete" and latest.is_feasible(spec.constraints),
        **{EXCESS + name: by for name, by in excess.items()},
        "reason": trial.reason,
        "data": spec.data,
        "seed": spec.seed,
        "started": trial.started,
        "seconds": trial.seconds or None,
        "weights": trial.weights if has_weights else None,
        **{name: number for name, number in links.items() if number is not None},
        **{f"params_{name}": value for name, value in trial.params.items()},
        "recipe": recipe_text(trial, spec),
    }


def _cells(latest: Reading, original: Reading | None) -> dict[str, Any]:
    """Return the cells of one reading: a value that replaces a prediction keeps what was predicted beside it."""
    name, cells = latest.name, {latest.name: latest.value, f"{latest.name}_device": latest.device or None}
    if isinstance(latest, Prediction):
        cells |= {f"{name}_kind": latest.kind, f"{name}_low": latest.low, f"{name}_high": latest.high}
    else:
        cells |= {f"{name}_spread": latest.spread, f"{name}_runs": latest.runs if latest.runs > 1 else None}
    if latest is not original and isinstance(latest, Measurement):
        cells[f"{name}_kind"] = "measured"
    if isinstance(original, Prediction) and original.kind == "predicted":
        cells[f"{name}_predicted"] = original.value
        if isinstance(latest, Measurement):
            cells[f"{name}_error_percent"] = prediction_error_percent(original.value, latest.value)
            cells |= {f"{name}_low": original.low, f"{name}_high": original.high}
    return {key: cell for key, cell in cells.items() if cell is not None}


@functools.cache  # tables of a study are made again and again
def _published_cost(architecture: Architecture, resolution: Resolution) -> tuple[int | None, int | None]:
    if architecture.family == "timm":
        return None, None
    return count_macs(architecture, resolution=resolution), count_params(architecture)


def reading_names(keys: Iterable[str]) -> list[str]:
    """Return those of a table's columns that are readings or nothing's suffix: not another's with one behind it."""
    keys = list(keys)
    beside = {key + end for key in keys for end in READING_SUFFIXES}
    return [key for key in keys if key not in beside]


def recorded_reading(row: Mapping[str, Any], name: str) -> Reading:
    """Return the reading `name` of a table's row without its missing cells."""
    value, device = row[name], row.get(f"{name}_device")
    if (kind := row.get(f"{name}_kind", "measured")) != "measured":
        low, high = row[f"{name}_low"], row[f"{name}_high"]
        return Prediction(name=name, value=value, low=low, high=high, device=str(device or ""), kind=kind)
    runs = int(row.get(f"{name}_runs", 1))
    return Measurement(name=name, value=value, runs=runs, spread=row.get(f"{name}_spread"), device=device)
