"""A storage URL as an Optuna storage, to write or only to read, and its errors in words."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.errors import StudyError, first_line

if TYPE_CHECKING:
    from optuna.storages import BaseStorage, RDBStorage
    from sqlalchemy import URL

_JOURNAL = "journal:///"
_LOCKED_FOR_S = 60  # another program may keep a SQLite file locked
_CONNECT_WITHIN_S = 5  # psycopg's own default is 130 s a try, where a firewall drops what is sent
# Optuna's tables, then those of its schema's version: each may be made by another process at the same time.
_SCHEMA_STEPS = 2

# What SQLite, a server's driver or the system says, and what the user should know; the first that fits is shown.
_CAUSES = (
    (("disk is full", "no space left"), "the disk is full. Make room and run the same command again"),
    (("readonly", "read-only", "permission denied"), "it is read-only. Make file and folder writable, or copy them"),
    (("locked",), "another program keeps it locked. Close it and run the same command again"),
    (
        ("malformed", "not a database", "file is encrypted", "expecting value"),
        "it is damaged. Restore a copy, or save what is readable with `sqlite3 FILE .recover`",
    ),
    (("unable to open", "no such file", "not a directory"), "it cannot be opened. Check the path and its folder"),
    (("no such table",), "it holds no study"),
    (
        ("connection refused", "connection failed", "timeout expired", "closed the connection", "terminating"),
        "its server does not answer. Run the same command again once it does",
    ),
)


def open_storage(url: str) -> BaseStorage:
    """Return the storage at `url`, made if it is not there yet.

    `sqlite:///FILE` writes ahead (WAL) and waits for a disk only at checkpoints: a power failure may cost the last
    trials, a killed process costs none. `journal:///FILE`, an absolute path, is Optuna's log file, for network file
    systems on which SQLite's locks do not work. Every other URL is SQLAlchemy's.
    """
    from sqlalchemy import event

    with storage_errors(url):
        path = storage_file(url)
        if path is not None and not path.parent.is_dir():
            raise StudyError(f"The storage {shown(url)} cannot be made: there is no folder {path.parent}.")
        if url.startswith(_JOURNAL):
            from optuna.storages import JournalStorage

            from starsearch.records.journal import JournalFile

            return JournalStorage(JournalFile(_journal_file(url)))
        if path is None:
            return _open_database(url, pool_pre_ping=True)  # a connection that a restart has cut is made anew
        # Every transaction takes the lock for writing first: one that reads and writes later may fail at once.
        arguments = {"timeout": _LOCKED_FOR_S, "isolation_level": "IMMEDIATE"}
        storage = _open_database(url, connect_args=arguments)
        event.listen(storage.engine, "connect", _write_ahead)
        storage.engine.dispose()  # connections that were made before
        return storage


@contextmanager
def read_storage(url: str) -> Iterator[BaseStorage]:
    """Yield the storage at `url`, which must be there; SQLite files are opened so that they cannot be written."""
    path = storage_file(url)
    if path is not None and not path.is_file():
        raise StudyError(f"There is no study at {shown(url)}: {path} does not exist.")
    with storage_errors(url):
        if path is None or url.startswith(_JOURNAL):
            storage = open_storage(url)
        else:
            # A file in WAL mode needs its -shm file beside it even to be read. Where the folder is read-only and no
            # writer has left one, nobody writes, and the file may be taken as it is; unless a killed writer has left
            # trials in its -wal file, which would be passed over.
            log = Path(f"{path}-wal")
            is_closed = not (log.exists() and log.stat().st_size)
            try:
                storage = _open_to_read(path, "")
            except Exception as error:
                if "unable to open" not in str(error) or not is_closed:
                    raise
                storage = _open_to_read(path, "&immutable=1")
        try:
            yield storage
        finally:
            close_storage(storage)


def _open_to_read(path: Path, options: str) -> RDBStorage:
    url = f"sqlite:///{path.absolute().as_uri()}?mode=ro{options}&uri=true"
    return _open_database(url, exists=True, connect_args={"timeout": _LOCKED_FOR_S})


def _open_database(url: str, *, exists: bool = False, **options: Any) -> RDBStorage:
    from optuna.storages import RDBStorage
    from sqlalchemy.exc import IntegrityError, NoSuchModuleError, ProgrammingError

    open_it = partial(RDBStorage, _with_driver(url), engine_kwargs=options, skip_table_creation=exists)
    try:
        for _ in range(_SCHEMA_STEPS):
            with suppress(IntegrityError, ProgrammingError):
                return open_it()
        return open_it()
    except ImportError as error:
        missing = getattr(error.__cause__, "name", None) or "a database driver"
        raise StudyError(
            f"The storage {shown(url)} needs {missing}, which is not installed. "
            "PostgreSQL: pip install 'psycopg[binary]'; other databases: SQLAlchemy's documentation names it."
        ) from error
    except NoSuchModuleError as error:
        raise StudyError(
            f"Unknown kind of storage {_parse(url).drivername!r} in {shown(url)}. "
            "Known: sqlite, journal, postgresql, mysql, and what SQLAlchemy knows."
        ) from error
    except RuntimeError as error:  # the tables are of another version of Optuna
        raise StudyError(f"The storage {shown(url)} cannot be read by this Optuna: {error}") from error


def _write_ahead(connection: Any, _: object) -> None:
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL"):
        connection.execute(f"PRAGMA {pragma}")


def close_storage(storage: BaseStorage) -> None:
    """Give back the connections of `storage`."""
    from optuna.storages import RDBStorage

    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


def storage_file(url: str) -> Path | None:
    """Return the file that `url` names; None for a server or memory."""
    if url.startswith("journal:"):
        return _journal_file(url)
    parsed = _parse(url)
    if parsed.get_backend_name() != "sqlite" or parsed.database in (None, "", ":memory:"):
        return None
    return Path(str(parsed.database))


def shown(url: str) -> str:
    """Return `url` as it may be printed: without its password."""
    return url if url.startswith(_JOURNAL) else _parse(url).render_as_string(hide_password=True)


@contextmanager
def storage_errors(url: str) -> Iterator[None]:
    """Turn errors of the storage into a `StudyError` that says what is wrong with it and what to do."""
    from optuna.exceptions import StorageInternalError
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (StorageInternalError, SQLAlchemyError, OSError, json.JSONDecodeError, UnicodeDecodeError) as error:
        said = str(error.__cause__ or error)
        words = next((words for signs, words in _CAUSES if any(sign in said.lower() for sign in signs)), "see below")
        if url.startswith(_JOURNAL) and isinstance(error, ValueError):
            words = "a record in it is damaged. Restore a copy"
        raise StudyError(
            f"The storage {shown(url)} failed: {words}. Finished trials are kept.\nIt said: {first_line(said)}"
        ) from error


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna still about what it says in passing ("A new study created …", "… is experimental")."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore", category=optuna.exceptions.ExperimentalWarning):
            yield
    finally:
        optuna.logging.set_verbosity(level)


def _parse(url: str) -> URL:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(url)
    except ArgumentError as error:
        raise StudyError(
            f"A storage is written as sqlite:///FILE, journal:///FILE or postgresql://USER@HOST/DATABASE; got {url!r}."
        ) from error


def _with_driver(url: str) -> str:
    """Return `url` with what it leaves open about PostgreSQL: the driver, and how long connecting may take."""
    parsed = _parse(url)
    if parsed.drivername in ("postgresql", "postgres"):
        # SQLAlchemy's own choice changes with its version; ours is what the extra installs.
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername == "postgresql+psycopg" and "connect_timeout" not in parsed.query:
        parsed = parsed.update_query_dict({"connect_timeout": str(_CONNECT_WITHIN_S)})
    return parsed.render_as_string(hide_password=False)


def _journal_file(url: str) -> Path:
    """Return the absolute path that `url` names; what might be meant as a relative one is refused."""
    rest = url.removeprefix(_JOURNAL)
    if rest == url or not rest.strip("/"):
        raise StudyError(f"A journal is written with its whole path, as {_JOURNAL}shared/studies/x.log; got {url!r}.")
    path, below = Path("/", rest.lstrip("/")).resolve(), Path(rest).resolve()
    is_odd = not path.parent.is_dir() or path.parent == Path("/") or below.is_file()
    if not rest.startswith("/") and is_odd and not path.is_file():
        raise StudyError(
            f"The storage {url!r} can be read as {path}, which is not there, or as {below}. Write the one that is "
            f"meant: {_JOURNAL}{path} or {_JOURNAL}{below}"
        )
    return path
