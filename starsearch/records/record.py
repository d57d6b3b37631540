"""`StudyRecord`: one study in the user's storage, as its driver writes it."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import starsearch
from starsearch.errors import StudyChangedError, StudyError
from starsearch.measurement import Measurement
from starsearch.records.attributes import (
    candidate_attributes,
    constraint_attributes,
    is_foreign,
    reading_attributes,
    recorded_candidate,
    recorded_measurements,
    sampler_attributes,
)
from starsearch.records.distributions import parameter_distributions
from starsearch.records.measured import Measured, keep_measured, measured_afterwards
from starsearch.records.open_study import OpenStudy
from starsearch.records.storage import open_storage, quiet_optuna, shown, storage_errors
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HALVING = "halving"  # the study's attribute
LADDER = "ladder"  # the first fidelity's attribute: the names of the studies of all fidelities


class StudyRecord(OpenStudy):
    """A study whose trials are written, by one process at a time (`hold_lease`).

    A trial is started once and ended once, each in one transaction of the storage, and never changed after.
    """

    def __init__(self, storage: BaseStorage, study_id: int, *, url: str, spec: StudySpec) -> None:
        super().__init__(storage, study_id, url=url, name=spec.name)
        self._spec = spec
        self._distributions = parameter_distributions(spec.space.parameters)
        self._trial_ids: dict[int, int] = {}

    @classmethod
    def open(
        cls,
        url: str,
        spec: StudySpec,
        *,
        signature: Mapping[str, str],
        attributes: Mapping[str, Any] | None = None,
    ) -> StudyRecord:
        """The record of the study `spec.name` at `url`, made if it is not there yet.

        Args:
            url: of the storage, as `open_storage` takes it.
            spec: of the study.
            signature: everything on which the trials' comparability rests, by dotted name, as text; a study that
                has a finished trial must have been begun with the same, one that has none begins anew.
            attributes: further user attributes of a new study.

        Raises:
            StudyChangedError: the study was begun with another signature, or other objectives.
            StudyError: the storage fails, or holds a study of this name that is not starsearch's.
        """
        storage = open_storage(url)
        with storage_errors(url):
            study_id = _find_or_create(storage, spec)
            known = storage.get_study_user_attrs(study_id)
            if "signature" in known and _begins_anew(storage, study_id, spec, known, signature, url=url):
                storage.delete_study(study_id)
                study_id, known = _find_or_create(storage, spec), {}
            if "signature" in known:
                _refuse_change(spec, known, signature)
                if known.get(HALVING) != (halving := _describe_halving(spec)):  # η may change
                    storage.set_study_user_attr(study_id, HALVING, halving)
            elif storage.get_n_trials(study_id):
                raise StudyError(
                    f"{shown(url)} holds a study {spec.name!r} that starsearch has not made. Give another --name."
                )
            else:
                _describe(storage, study_id, spec, signature, attributes or {})
        return cls(storage, study_id, url=url, spec=spec)

    def trials(self) -> list[Trial]:
        """Return the study's own trials in order of their numbers, with the readings their evaluations returned."""
        return [self._decode(trial) for trial in self.frozen_trials()]

    def frozen_trials(self) -> list[FrozenTrial]:
        """Return the same as Optuna's; trials of other programs are left out."""
        with storage_errors(self.url):
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return sorted((trial for trial in trials if not is_foreign(trial)), key=lambda trial: trial.number)

    def measured(self) -> Measured:
        """Return what was measured after trials had ended."""
        return measured_afterwards(self.attributes(), self.frozen_trials())

    def keep_measured(self, architecture: str, measurement: Measurement) -> None:
        """Write what was measured of the architecture of this hash, in place of what was there of the same name."""
        self._check_lease()
        keep_measured(self, architecture, measurement)

    def start(self, trial: Trial) -> Trial:
        """Write a new running trial; return it with its number."""
        from optuna.trial import TrialState, create_trial

        from starsearch.records import transactions

        links = {name: getattr(trial, name) for name in ("retry_of", "continues", "promoted_from")}
        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(trial.params),
            distributions={name: self._distributions[name] for name in trial.params},
            user_attrs={
                **candidate_attributes(trial.candidate, spec=self._spec),
                **{name: number for name, number in links.items() if number is not None},
            },
            intermediate_values=dict(trial.curve),
        )
        template.datetime_start = datetime.now().astimezone()
        self._check_lease()
        with storage_errors(self.url):
            trial_id, number = transactions.create_trial(self._storage, self._study_id, template)
        self._trial_ids[number] = trial_id
        return replace(trial, number=number)

    def report(self, trial: Trial, *, epoch: int, value: float) -> None:
        """Write what the trial had reached after `epoch`."""
        from optuna.exceptions import UpdateFinishedTrialError

        from starsearch.records import transactions

        self._check_lease()
        # Ended by another program: whoever ends the trial here is told.
        with storage_errors(self.url), suppress(UpdateFinishedTrialError):
            transactions.report_value(self._storage, self._trial_ids[trial.number], epoch, value)

    def finish(self, trial: Trial) -> Trial:
        """Write the end of a trial; return it as failed where another program has ended it meanwhile."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        from starsearch.records import transactions

        user: dict[str, Any] = {"seconds": trial.seconds} if trial.seconds else {}
        system: dict[str, Any] = {}
        if trial.state == "fail":
            user |= {"reason": trial.reason, **({"interrupted": True} if trial.lost else {})}
        else:
            user |= reading_attributes(trial.readings)
            system = {**constraint_attributes(trial.violations(self._spec.constraints)), **trial.noted}
        if trial.state == "pruned":
            user |= {"rung": trial.rung, "epochs": trial.epochs}
        if trial.weights is not None:
            user["weights"] = trial.weights
        values = [trial.values[one.name] for one in self._spec.objectives] if trial.state == "complete" else None
        self._check_lease()
        try:
            with storage_errors(self.url):
                transactions.finish_trial(
                    self._storage,
                    self._trial_ids.pop(trial.number),
                    TrialState[trial.state.upper()],
                    values=values,
                    user_attrs=user,
                    system_attrs=system,
                )
        except UpdateFinishedTrialError:
            self._check_lease(renew=True)  # raises where another driver has the study
            return replace(trial, state="fail", reason="Another program has ended the trial.", lost=False)
        return trial

    def fail_running(self, reason: str) -> list[Trial]:
        """End the trials that were left running as lost; return them."""
        from starsearch.records import transactions

        left = [trial for trial in self.frozen_trials() if trial.state.name == "RUNNING"]
        self._trial_ids |= {trial.number: transactions.trial_id(trial) for trial in left}
        return [self.finish(replace(self._decode(one), state="fail", reason=reason, lost=True)) for one in left]

    def _check_lease(self, *, renew: bool = False) -> None:
        if self.lease is not None:
            if renew:
                self.lease.renew()
            self.lease.check()

    def _decode(self, trial: FrozenTrial) -> Trial:
        said: Mapping[str, Any] = trial.user_attrs
        state: Any = trial.state.name.lower()
        return Trial(
            candidate=recorded_candidate(trial, self._spec.recipe),
            params=trial.params,
            number=trial.number,
            state=state,
            rung=said.get("rung"),
            epochs=said.get("epochs"),
            continues=said.get("continues"),
            retry_of=said.get("retry_of"),
            promoted_from=said.get("promoted_from"),
            curve=trial.intermediate_values,
            readings=recorded_measurements(trial),
            seconds=said.get("seconds", 0.0),
            weights=said.get("weights"),
            reason=said.get("reason"),
            lost=said.get("interrupted", False),
            noted=sampler_attributes(trial),
        )


def _find_or_create(storage: BaseStorage, spec: StudySpec) -> int:
    from optuna.exceptions import DuplicatedStudyError
    from optuna.study import StudyDirection

    directions = [StudyDirection[objective.direction.upper()] for objective in spec.objectives]
    try:
        return storage.get_study_id_from_name(spec.name)
    except KeyError:
        pass
    try:
        with quiet_optuna():
            return storage.create_new_study(directions, spec.name)
    except DuplicatedStudyError:  # made by another process since
        return storage.get_study_id_from_name(spec.name)


def _describe(
    storage: BaseStorage, study_id: int, spec: StudySpec, signature: Mapping[str, str], attributes: Mapping[str, Any]
) -> None:
    from starsearch.records import transactions

    transactions.set_metric_names(storage, study_id, [objective.name for objective in spec.objectives])
    described = {
        **attributes,
        "starsearch": starsearch.__version__,
        "objectives": [asdict(objective) for objective in spec.objectives],
        "devices": spec.devices,
        "fit_options": {
            name: f"--from {shlex.quote(profile)} --space {shlex.quote(spec.space_file)}"
            for name, profile in spec.profile_files.items()
        },
        "data": spec.data,
        "fidelity": spec.fidelity.name,
        HALVING: _describe_halving(spec),
        "spec": spec.to_json(),
        # Last: a study without it was not described to the end, and is described again.
        "signature": dict(signature),
    }
    for key, value in described.items():
        storage.set_study_user_attr(study_id, key, value)


def _describe_halving(spec: StudySpec) -> dict[str, Any] | None:
    if spec.halving is None:
        return None
    return {
        "eta": spec.halving.eta,
        "epochs_of_rungs": [rung.epochs for rung in spec.halving.rungs],
        "epochs": spec.num_epochs,
    }


def _begins_anew(
    storage: BaseStorage,
    study_id: int,
    spec: StudySpec,
    known: Mapping[str, Any],
    signature: Mapping[str, str],
    *,
    url: str,
) -> bool:
    """Whether the study was begun with something else, and nothing has come of it that could not be compared."""
    from optuna.trial import TrialState

    from starsearch.records.lease import working_driver

    changes = _all_changes(spec, known, signature)
    finished = (TrialState.COMPLETE, TrialState.PRUNED)
    if not changes or storage.get_n_trials(study_id, finished) or working_driver(url, spec.name):
        return False
    warnings.warn(
        f"The study {spec.name!r} was begun with something else and has no finished trial: it begins anew "
        f"({'; '.join(changes)}).",
        stacklevel=2,
    )
    return True


def _all_changes(spec: StudySpec, known: Mapping[str, Any], signature: Mapping[str, str]) -> list[str]:
    changes = _changes(known["signature"], signature)
    if not changes and known["objectives"] != [asdict(objective) for objective in spec.objectives]:
        return ["objectives: the study has others"]
    return changes


def _refuse_change(spec: StudySpec, known: Mapping[str, Any], signature: Mapping[str, str]) -> None:
    changes = _all_changes(spec, known, signature)
    if changes:
        raise StudyChangedError(
            f"The study {spec.name!r} was begun with something else:\n"
            + "".join(f"  {line}\n" for line in changes)
            + "Trials of both could not be compared. Take the change back, or give the new study another --name."
        )


def _changes(old: Mapping[str, str], new: Mapping[str, str]) -> list[str]:
    """One line for each name whose text differs."""
    names = sorted({*old, *new}, key=lambda name: (name not in new, name))
    return [
        f"{name}: was {old.get(name, 'not there')}, now {new.get(name, 'not there')}"
        for name in names
        if old.get(name) != new.get(name)
    ]
