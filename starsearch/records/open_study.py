"""`OpenStudy`: a study in a storage, opened to write the attributes of the study itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from starsearch.errors import StudyError
from starsearch.records.storage import close_storage, open_storage, shown, stop_waiting, storage_errors

if TYPE_CHECKING:
    from optuna.storages import BaseStorage

    from starsearch.records.lease import Lease


class OpenStudy:
    """A study whose attributes are read and written, by one process at a time (`hold_lease`).

    Attributes:
        url: of the storage.
        name: of the study in it.
    """

    def __init__(self, storage: BaseStorage, study_id: int, *, url: str, name: str) -> None:
        self.url = url
        self.name = name
        self.lease: Lease | None = None  # while it is held, it is checked before trials are written
        self._storage = storage
        self._study_id = study_id

    @classmethod
    def find(cls, url: str, name: str) -> Self:
        """The study `name` that is at `url` already.

        Raises:
            StudyError: there is none, or the storage fails.
        """
        storage = open_storage(url)
        try:
            with storage_errors(url):
                study_id = storage.get_study_id_from_name(name)
        except KeyError:
            close_storage(storage)
            raise StudyError(f"{shown(url)} holds no study {name!r}.") from None
        return cls(storage, study_id, url=url, name=name)

    @property
    def storage(self) -> BaseStorage:
        """Optuna's storage, for Optuna's own tools."""
        return self._storage

    def stop_waiting(self) -> None:
        """Where the storage is locked or away, fail within seconds until it is had again."""
        stop_waiting(self._storage)

    def close(self) -> None:
        """Give back the storage's connections."""
        close_storage(self._storage)

    def attributes(self) -> Mapping[str, Any]:
        """The study's user attributes, as they are now."""
        with storage_errors(self.url):
            return dict(self._storage.get_study_user_attrs(self._study_id))

    def attribute(self, key: str) -> Any:
        """The study's user attribute `key`; None where there is none."""
        return self.attributes().get(key)

    def set_attribute(self, key: str, value: Any) -> None:
        """Set the study's user attribute `key` to a JSON value."""
        with storage_errors(self.url):
            self._storage.set_study_user_attr(self._study_id, key, value)
