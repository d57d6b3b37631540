"""`StudyRecord`: one study in the user's storage, as its driver writes it."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from enum import Enum
from typing import TYPE_CHECKING, Any

import starsearch
from starsearch.candidate import Candidate
from starsearch.errors import StudyChangedError, StudyError, StudyLeasedError
from starsearch.measurement import Reading
from starsearch.records.attributes import candidate_attributes, constraint_attributes, is_foreign, reading_attributes
from starsearch.records.distributions import parameter_distributions
from starsearch.records.open_study import OpenStudy
from starsearch.records.storage import open_storage, quiet_optuna, shown, storage_errors
from starsearch.space.parameters import Value
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

HALVING = "halving"  # the study's attribute
LADDER = "ladder"  # the first fidelity's attribute: the names of the studies of all fidelities


class TrialEnd(Enum):
    """How a trial ends, by Optuna's names."""

    COMPLETE = "complete"
    PRUNED = "pruned"
    FAIL = "fail"


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

    def trials(self) -> list[FrozenTrial]:
        """Return the study's own trials in order of their numbers; those of other programs are left out."""
        with storage_errors(self.url):
            trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        return sorted((trial for trial in trials if not is_foreign(trial)), key=lambda trial: trial.number)

    def start(
        self,
        candidate: Candidate,
        *,
        params: Mapping[str, Value],
        retry_of: int | None = None,
        continues: int | None = None,
        curve: Mapping[int, float] | None = None,
        promoted_from: int | None = None,
        elsewhere: bool = False,
    ) -> int:
        """The number of a new running trial of `candidate`.

        Args:
            candidate: what is evaluated.
            params: the space's parameters that decode to it; empty for an anchor outside the space.
            retry_of: number of the interrupted trial that this one repeats.
            continues: number of the stopped trial whose training goes on in this one.
            curve: what the training had reached before, by epoch.
            promoted_from: number of the candidate's trial in the study of the fidelity below.
            elsewhere: whether it is evaluated in another process than this, which it cannot kill.
        """
        from optuna.trial import TrialState, create_trial

        from starsearch.records import transactions

        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(params),
            distributions={name: self._distributions[name] for name in params},
            user_attrs=candidate_attributes(
                candidate,
                spec=self._spec,
                retry_of=retry_of,
                continues=continues,
                promoted_from=promoted_from,
                elsewhere=elsewhere,
            ),
            intermediate_values=dict(curve or {}),
        )
        template.datetime_start = datetime.now().astimezone()
        with storage_errors(self.url):
            trial_id, number = transactions.create_trial(self._storage, self._study_id, template)
        self._trial_ids[number] = trial_id
        return number

    def report(self, number: int, *, epoch: int, value: float) -> None:
        """Write what the trial had reached after `epoch`."""
        from optuna.exceptions import UpdateFinishedTrialError

        from starsearch.records import transactions

        # Ended by another program: whoever ends the trial here is told.
        with storage_errors(self.url), suppress(UpdateFinishedTrialError):
            transactions.report_value(self._storage, self._trial_ids[number], epoch, value)

    def complete(
        self,
        number: int,
        *,
        values: Sequence[float],
        measurements: Sequence[Reading],
        constraints: Mapping[str, float],
        seconds: float,
        weights: str | None = None,
        sampler_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """End a trial that was evaluated.

        Args:
            number: of the trial.
            values: of the objectives, in their order and natural signs.
            measurements: everything that was measured or predicted.
            constraints: by how much each is broken; feasible where all are ≤ 0.
            seconds: that the evaluation took.
            weights: file of the trained weights, relative to the study's folder.
            sampler_attributes: what the sampler noted and needs again when the study goes on.
        """
        attributes = {**reading_attributes(measurements), "seconds": seconds}
        if weights is not None:
            attributes["weights"] = weights
        system = {**constraint_attributes(constraints), **(sampler_attributes or {})}
        self._finish(number, TrialEnd.COMPLETE, values=values, user=attributes, system=system)

    def prune(
        self,
        number: int,
        *,
        rung: int,
        epochs: int,
        measurements: Sequence[Reading],
        constraints: Mapping[str, float],
        seconds: float,
        sampler_attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """End a trial that was stopped at a rung; a later one may go on with its training.

        Args:
            number: of the trial.
            rung: that it has reached, from 0.
            epochs: trained there.
            measurements: everything that was measured or predicted at the rung.
            constraints: by how much each is broken there.
            seconds: that the evaluation took.
            sampler_attributes: what the sampler noted.
        """
        stopped = {"rung": rung, "epochs": epochs, "seconds": seconds}
        attributes = {**reading_attributes(measurements), **stopped}
        system = {**constraint_attributes(constraints), **(sampler_attributes or {})}
        self._finish(number, TrialEnd.PRUNED, values=None, user=attributes, system=system)

    def fail(self, number: int, *, reason: str, seconds: float | None = None, interrupted: bool = False) -> None:
        """End a trial that has no result.

        Args:
            number: of the trial.
            reason: for the user.
            seconds: that the evaluation took, where it is known.
            interrupted: the candidate was not at fault and shall be evaluated again.
        """
        attributes: dict[str, Any] = {"reason": reason}
        if seconds is not None:
            attributes["seconds"] = seconds
        if interrupted:
            attributes["interrupted"] = True
        self._finish(number, TrialEnd.FAIL, values=None, user=attributes, system={})

    def fail_running(self, reason: str) -> list[int]:
        """The numbers of the trials that were left running; they end as interrupted."""
        from starsearch.records import transactions

        left = [trial for trial in self.trials() if trial.state.name == "RUNNING"]
        for trial in left:
            self._trial_ids[trial.number] = transactions.trial_id(trial)
            self.fail(trial.number, reason=reason, interrupted=True)
        return [trial.number for trial in left]

    def _finish(
        self,
        number: int,
        end: TrialEnd,
        *,
        values: Sequence[float] | None,
        user: Mapping[str, Any],
        system: Mapping[str, Any],
    ) -> None:
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        from starsearch.records import transactions

        state, trial_id = TrialState[end.name], self._trial_ids.pop(number)
        try:
            with storage_errors(self.url):
                transactions.finish_trial(
                    self._storage, trial_id, state, values=values, user_attrs=user, system_attrs=system
                )
        except UpdateFinishedTrialError as error:
            raise StudyLeasedError(
                f"Another program has ended trial {number} of the study {self.name!r} meanwhile. "
                "Finished trials are kept; run the same command again."
            ) from error


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
