"""Where a study lies: its folder, its storage, its name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from starsearch.errors import StudyError

DATABASE = "study.db"
# In the folder of a study that is kept elsewhere: NAME@STORAGE-URL, without a password.
POINTER = "storage.txt"


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
    return place_of_folder(Path(study))


def place_of_folder(folder: Path) -> StudyPlace:
    """The place of the study in `folder`, whatever the folder is called now.

    Raises:
        StudyError: there is no such folder, or no study in it.
    """
    from starsearch.records import study_names

    if not folder.is_dir():
        raise StudyError(
            f"There is no study folder {str(folder)!r}. Name one that `starsearch run` has made (studies/starnet), "
            "or NAME@STORAGE-URL."
        )
    pointer = folder / POINTER
    if pointer.is_file():
        name, _, url = pointer.read_text(encoding="utf-8").strip().partition("@")
        return StudyPlace(name=name, url=url, folder=folder)
    if not (folder / DATABASE).is_file():
        raise StudyError(f"{folder} holds no study: neither {DATABASE} nor {POINTER}.")
    url = database_url(folder)
    names = study_names(url)
    return StudyPlace(name=names[0] if len(names) == 1 else folder.resolve().name, url=url, folder=folder)


def database_url(folder: Path) -> str:
    """The storage URL of a study that is kept in its own folder."""
    return f"sqlite:///{folder / DATABASE}"


def point_to_storage(folder: Path, name: str, url: str) -> None:
    """Note in the study's folder that its study is kept elsewhere; a password is left to the driver's own means."""
    from sqlalchemy.engine import make_url

    if "://" in url and not url.startswith("journal:"):
        url = make_url(url).set(password=None).render_as_string()
    (folder / POINTER).write_text(f"{name}@{url}\n", encoding="utf-8")


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
