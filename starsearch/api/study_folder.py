"""Where a study lies: its folder, its storage, its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starsearch.errors import StudyError

DATABASE = "study.db"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlace:
    """A study that can be opened.

    Attributes:
        name: in the storage.
        url: of the storage.
        folder: of its pictures, tables and weights; None for a study named by storage alone.
    """

    name: str
    url: str
    folder: Path | None


def place_of(study: str) -> StudyPlace:
    """The place that the text STUDY names: a folder with study.db, or NAME@STORAGE-URL.

    Raises:
        StudyError: there is no such folder, or no database in it.
    """
    name, at, url = study.partition("@")
    if at and "://" in url:
        return StudyPlace(name=name, url=url, folder=None)
    folder = Path(study)
    if not folder.is_dir():
        raise StudyError(
            f"There is no study folder {study!r}. Name one that `starsearch run` has made (studies/starnet), "
            "or NAME@STORAGE-URL."
        )
    if not (folder / DATABASE).is_file():
        raise StudyError(
            f"{study} holds no {DATABASE}. If its study is kept in another storage, name it as NAME@STORAGE-URL."
        )
    return StudyPlace(name=folder.resolve().name, url=database_url(folder), folder=folder)


def database_url(folder: Path) -> str:
    """The storage URL of a study that is kept in its own folder."""
    return f"sqlite:///{folder / DATABASE}"


def make_folder(out: Path, name: str) -> Path:
    """The study's folder, made if need be.

    Raises:
        StudyError: it cannot be made or written to.
    """
    if not name or name != Path(name).name or name in (".", "..") or "@" in name:
        raise StudyError(f"A study's name is that of a folder, without '/' and '@'; got {name!r}.")
    folder = out / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".write-probe"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise StudyError(
            f"The study's folder {folder} cannot be written: {error.strerror}. Give another one with --out."
        ) from None
    return folder
