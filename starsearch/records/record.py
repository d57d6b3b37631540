"""`StudyRecord`: one study in the user's storage, as its driver writes it. Public calls of Optuna only."""

from __future__ import annotations

import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import starsearch
from starsearch.errors import StudyChangedError, StudyError, StudyLeasedError
from starsearch.measurement import Measurement
from starsearch.records.lock import LEASE, Lease, alone, lock_file, working_driver
from starsearch.records.measured import PREFIX, Measured, measured_afterwards
from starsearch.records.storage import close_storage, open_storage, quiet_optuna, shown, storage_errors
from starsearch.records.trials import (
    ended_attributes,
    is_foreign,
    parameter_distributions,
    read_trial,
    started_attributes,
    system_attributes,
)
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

DRIVER_DIED = "The driver died while it was evaluated."
FIDELITIES = "fidelities"  # the first fidelity's attribute: the names of the studies of all fidelities


class StudyRecord:
    """A study whose trials are written, by one process at a time (`hold_lease`).

    A trial is started once and ended once, and never changed after. It starts in one transaction; its state is written
    last, so that one whose driver dies in between is still running, and runs again.

    Attributes:
        spec: what the study was begun with.
        lease: while it is held, it is checked before anything is written.
    """

    def __init__(self, storage: BaseStorage, *, url: str, spec: StudySpec) -> None:
        self.url, self.name, self.spec = url, spec.name, spec
        self.lease: Lease | None = None
        self._storage = storage
        self._study_id = storage.get_study_id_from_name(spec.name)
        self._distributions = parameter_distributions(spec.space.parameters)
        self._trial_ids: dict[int, int] = {}
        self._next_number = storage.get_n_trials(self._study_id)

    @classmethod
    def open(
        cls,
        url: str,
        spec: StudySpec,
        *,
        conditions: Mapping[str, str] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> StudyRecord:
        """Return the record of the study `spec.name` at `url`, made if it is not there yet.

        Args:
            conditions: what else has to stay for trials to be comparable, in words: the data, the device.
            attributes: further user attributes of a new study.
        """
        from optuna.trial import TrialState

        storage = open_storage(url)
        described = {
            **(attributes or {}),
            "starsearch": starsearch.__version__,
            "conditions": dict(conditions or {}),
            "spec": spec.to_json(),  # last: a study without it was not described to the end, and is described again
        }
        with storage_errors(url):
            study_id = _find_or_create(storage, spec)
            known = storage.get_study_user_attrs(study_id)
            if "spec" in known and (known["spec"], known["conditions"]) != (described["spec"], described["conditions"]):
                finished = storage.get_n_trials(study_id, (TrialState.COMPLETE, TrialState.PRUNED))
                is_in_use = bool(finished or working_driver(url, spec.name, known))
                if _begins_anew(spec, known, described["conditions"], is_in_use=is_in_use):
                    storage.delete_study(study_id)
                    study_id, known = _find_or_create(storage, spec), {}
            if "spec" not in known:
                if storage.get_n_trials(study_id):
                    refuse_other_maker(url, spec.name, known)
                for key, value in described.items():
                    storage.set_study_user_attr(study_id, key, value)
            elif known["spec"] != described["spec"]:  # of what may change
                storage.set_study_user_attr(study_id, "spec", described["spec"])
        return cls(storage, url=url, spec=spec)

    @classmethod
    def find(cls, url: str, name: str) -> StudyRecord:
        """Return the record of the study `name` that is at `url` already."""
        storage = open_storage(url)
        try:
            with storage_errors(url):
                known = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
        except KeyError:
            close_storage(storage)
            raise StudyError(f"{shown(url)} holds no study {name!r}.") from None
        refuse_other_maker(url, name, known)
        return cls(storage, url=url, spec=StudySpec.from_json(known["spec"]))

    def close(self) -> None:
        """Give back the storage's connections."""
        close_storage(self._storage)

    def attributes(self) -> Mapping[str, Any]:
        """Return the study's user attributes, as they are now."""
        with storage_errors(self.url):
            return dict(self._storage.get_study_user_attrs(self._study_id))

    def attribute(self, key: str) -> Any:
        """Return the study's user attribute `key`; None where there is none."""
        return self.attributes().get(key)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set the study's user attribute `key` to a JSON value."""
        with storage_errors(self.url):
            self._storage.set_study_user_attr(self._study_id, key, value)

    def trials(self) -> list[Trial]:
        """Return the study's own trials by number, with the readings that their evaluations returned."""
        with storage_errors(self.url):
            found = self._storage.get_all_trials(self._study_id, deepcopy=False)
        own = (read_trial(one, self.spec) for one in found if not is_foreign(one))
        return sorted(own, key=lambda trial: trial.number)

    def measured(self) -> Measured:
        """Return what was measured after trials had ended."""
        return measured_afterwards(self.attributes(), self.trials())

    def keep_measured(self, architecture: str, measurement: Measurement) -> None:
        """Write what was measured of the architecture of this hash, in place of what was there of the same name."""
        self._check_lease()
        self.set_attribute(f"{PREFIX}{measurement.name}:{architecture}", asdict(measurement))

    def start(self, trial: Trial) -> Trial:
        """Write a new running trial, begun `trial.seconds` ago; return it with its number."""
        from optuna.trial import TrialState, create_trial

        template = create_trial(
            state=TrialState.RUNNING,
            params=dict(trial.params),
            distributions={name: self._distributions[name] for name in trial.params},
            user_attrs=started_attributes(trial, self.spec),
            intermediate_values=dict(trial.curve),
        )
        template.datetime_start = datetime.now() - timedelta(seconds=trial.seconds)  # noqa: DTZ005 — as Optuna keeps it
        self._check_lease()
        id_of = self._storage.get_trial_id_from_study_id_trial_number
        with storage_errors(self.url):
            trial_id = self._storage.create_new_trial(self._study_id, template)
            # Numbers are consecutive: the next is most often right, and finding one costs six statements of SQL.
            number = self._next_number
            while id_of(self._study_id, number) != trial_id:
                number += 1
        self._trial_ids[number], self._next_number = trial_id, number + 1
        return replace(trial, number=number)

    def report(self, trial: Trial, *, epoch: int, value: float) -> None:
        """Write what the trial had reached after `epoch`."""
        from optuna.exceptions import UpdateFinishedTrialError

        self._check_lease()
        # Where another program has ended the trial, `finish` says so.
        with storage_errors(self.url), suppress(UpdateFinishedTrialError):
            self._storage.set_trial_intermediate_value(self._trial_ids[trial.number], epoch, value)

    def finish(self, trial: Trial) -> Trial:
        """Write the end of a trial; return it as failed where another program has ended it meanwhile."""
        from optuna.exceptions import UpdateFinishedTrialError
        from optuna.trial import TrialState

        values = [trial.values[one.name] for one in self.spec.objectives] if trial.state == "complete" else None
        self._check_lease()
        trial_id = self._trial_ids.pop(trial.number)
        try:
            with storage_errors(self.url):
                for key, value in ended_attributes(trial, self.spec).items():
                    self._storage.set_trial_user_attr(trial_id, key, value)
                for key, value in system_attributes(trial, self.spec).items():
                    self._storage.set_trial_system_attr(trial_id, key, value)
                self._storage.set_trial_state_values(trial_id, TrialState[trial.state.upper()], values)
        except UpdateFinishedTrialError:
            self._check_lease(renew=True)  # raises where another driver has the study
            return replace(trial, state="fail", reason="Another program has ended the trial.", lost=False)
        return trial

    def fail_running(self, reason: str, settle: Callable[[Trial], Trial] = lambda trial: trial) -> list[Trial]:
        """End the trials that were left running as lost, or as `settle` returns them; return them."""
        left = [trial for trial in self.trials() if trial.state == "running"]
        id_of = self._storage.get_trial_id_from_study_id_trial_number
        with storage_errors(self.url):
            self._trial_ids |= {trial.number: id_of(self._study_id, trial.number) for trial in left}
        return [self.finish(settle(replace(trial, state="fail", reason=reason, lost=True))) for trial in left]

    def _check_lease(self, *, renew: bool = False) -> None:
        if self.lease is not None:
            if renew:
                self.lease.renew()
            self.lease.check()


@contextmanager
def hold_lease(record: StudyRecord) -> Iterator[Lease]:
    """Hold a study; raise `StudyLeasedError` with the words of who holds it where another live driver does."""
    there = record.attribute(LEASE)
    refusal = (
        f"Another driver works on the study {record.name!r}: {there['holder'] if there else 'it has just begun'}. "
        "Wait for it or stop it, or give this study another --name."
    )
    with alone(lock_file(record.url, record.name), refusal):
        if there and there["host"] != socket.gethostname() and time.time() < there["expires"]:
            raise StudyLeasedError(refusal)
        read, write = partial(record.attribute, LEASE), partial(record.set_attribute, LEASE)
        record.lease = lease = Lease(record.name, read, write)
        try:
            yield lease
        finally:
            record.lease = None
            with suppress(StudyError):  # a storage that fails has been reported; the lease expires
                lease.release()


def refuse_other_maker(url: str, name: str, attributes: Mapping[str, Any]) -> None:
    """Refuse a study of these attributes that this version has not made."""
    if "signature" in attributes and "spec" not in attributes:
        raise StudyError(
            f"The study {name!r} in {shown(url)} was made by starsearch {attributes.get('starsearch', '0.1')}, whose "
            "records this version cannot read. Read it with that version, or give a new study another --name."
        )
    if "spec" not in attributes:
        raise StudyError(f"The study {name!r} in {shown(url)} was not made by starsearch. Give another --name.")


def differences(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """Return in words, by item, how one study's description differs from another's."""
    return {
        name: f"{name}: was {old.get(name, 'not there')}, now {new.get(name, 'not there')}"
        for name in sorted({*old, *new}, key=lambda name: (name not in new, name))
        if old.get(name) != new.get(name)
    }


def _find_or_create(storage: BaseStorage, spec: StudySpec) -> int:
    import optuna

    with quiet_optuna():
        study = optuna.create_study(
            storage=storage,
            study_name=spec.name,
            directions=[objective.direction for objective in spec.objectives],
            load_if_exists=True,
        )
        if not study.user_attrs:
            study.set_metric_names([objective.name for objective in spec.objectives])
    return storage.get_study_id_from_name(spec.name)


def _begins_anew(spec: StudySpec, known: Mapping[str, Any], conditions: Mapping[str, str], *, is_in_use: bool) -> bool:
    """Whether the study was begun with something else, and nothing has come of it that could not be compared."""
    old = StudySpec.from_json(known["spec"]).describe() | known["conditions"]
    new = spec.describe() | dict(conditions)
    changes = list(differences(old, new).values())
    if not changes:
        return False
    if is_in_use:
        raise StudyChangedError(
            f"The study {spec.name!r} was begun with something else:\n"
            + "".join(f"  {line}\n" for line in changes)
            + "Trials of both could not be compared. Take the change back, or give the new study another --name."
        )
    warnings.warn(
        f"The study {spec.name!r} was begun with something else and has no finished trial: it begins anew "
        f"({'; '.join(changes)}).",
        stacklevel=2,
    )
    return True
