"""Where a study lies (its folder, its storage, its name), and the view of what is there."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from starsearch.errors import StudyError
from starsearch.latency.peers import cache_file, peer_table
from starsearch.latency.reference import Reference
from starsearch.objective import LATENCY
from starsearch.records.record import FIDELITIES
from starsearch.records.table import RecordedStudy, load_attributes, load_fidelities, study_names
from starsearch.report.view import StudyView
from starsearch.study.spec import StudySpec

DATABASE = "study.db"
# In the folder of a study that is kept elsewhere: NAME@STORAGE-URL, without a password.
POINTER = "storage.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPlace:
    """A study that can be opened.

    Attributes:
        name, url: the study's in its storage, and the storage's.
        folder: where its pictures, tables and weights lie; None for a study named by its storage alone.
        is_whole: whether its later fidelities are meant as well.
    """

    name: str
    url: str
    folder: Path | None
    is_whole: bool = True


def place_of(study: str) -> StudyPlace:
    """Return where the study lies that a text names: a folder, FOLDER.FIDELITY in it, or NAME@STORAGE-URL."""
    name, at, url = study.partition("@")
    if at and "://" in url:
        return StudyPlace(name=name, url=url, folder=None)
    return _place_of_fidelity(Path(study)) or place_of_folder(Path(study))


def _place_of_fidelity(path: Path) -> StudyPlace | None:
    """Return the place of studies/NAME.FIDELITY, which lies in studies/NAME; None where `path` is something else."""
    base, dot, fidelity = path.name.rpartition(".")
    folder = path.with_name(base) if dot and base else path
    if path.exists() or not dot or not folder.is_dir():
        return None
    whole = place_of_folder(folder)
    attributes = load_attributes(whole.url, whole.name)
    if fidelity == attributes.get("spec", {}).get("fidelity", {}).get("name"):
        return replace(whole, is_whole=False)
    name = f"{whole.name}.{fidelity}"
    if name not in attributes.get(FIDELITIES, ()):
        return None
    return StudyPlace(name=name, url=whole.url, folder=folder / fidelity, is_whole=False)


def place_of_folder(folder: Path) -> StudyPlace:
    """Return the place of the study in `folder`, whatever the folder is called now."""
    if not folder.is_dir():
        raise StudyError(
            f"There is no study folder {str(folder)!r}. Name one that `starsearch run` has made (studies/starnet), "
            "or NAME@STORAGE-URL."
        )
    if (pointer := folder / POINTER).is_file():
        name, _, url = pointer.read_text(encoding="utf-8").strip().partition("@")
        return StudyPlace(name=name, url=url, folder=folder)
    if not (folder / DATABASE).is_file():
        raise StudyError(f"{folder} holds no study: neither {DATABASE} nor {POINTER}.")
    url = database_url(folder)
    names = study_names(url)
    names = tuple(name for name in names if not any(name.startswith(f"{other}.") for other in names))
    return StudyPlace(name=names[0] if len(names) == 1 else folder.resolve().name, url=url, folder=folder)


def database_url(folder: Path) -> str:
    """Return the storage URL of a study that is kept in its own folder."""
    return f"sqlite:///{folder / DATABASE}"


def point_to_storage(folder: Path, name: str, url: str) -> None:
    """Note in the study's folder that its study is kept elsewhere; a password is left to the driver's own means."""
    from sqlalchemy.engine import make_url

    if "://" in url and not url.startswith("journal:"):
        url = make_url(url).set(password=None).render_as_string()
    (folder / POINTER).write_text(f"{name}@{url}\n", encoding="utf-8")


def make_folder(out: Path, name: str, storage: str | None = None) -> Path:
    """Return the study's folder, made if need be; `storage` is the URL where the study is not kept in it."""
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
    _refuse_other_study(folder, name, storage)
    return folder


def _refuse_other_study(folder: Path, name: str, storage: str | None) -> None:
    """Refuse a renamed or copied folder, in which a second study would overwrite the weights of the first."""
    pointer, kept = folder / POINTER, DATABASE
    names: tuple[str, ...] = ()
    if pointer.is_file():
        there, _, kept = pointer.read_text(encoding="utf-8").strip().partition("@")
        names = (there,)
    elif (folder / DATABASE).is_file():
        with suppress(StudyError):  # damaged, or made by a driver that was killed at once; opening it says so
            names = study_names(database_url(folder))
    if not names:
        return
    if not any(one == name or one.startswith(f"{name}.") for one in names):
        raise StudyError(
            f"{folder} holds the study {names[0]!r}, whose weights {name!r} would overwrite. To resume it, call "
            f"the folder {names[0]!r} again and run with that name; a new study takes another --name."
        )
    if pointer.is_file() != (storage is not None):
        how = f"--storage {kept}" if storage is None else "no --storage"
        raise StudyError(f"{folder} holds the study {name!r}, kept in {kept}. Run with {how}, or with another --name.")


def as_begun(specs: Sequence[StudySpec], url: str) -> tuple[StudySpec, ...]:
    """Return the specs with what they leave open as the studies in a storage were begun with, where they were."""
    begun = [load_attributes(url, spec.name).get("spec") for spec in specs]
    pairs = zip(specs, begun, strict=True)
    return tuple(spec.resuming(StudySpec.from_json(known)) if known else spec for spec, known in pairs)


def open_view(place: StudyPlace) -> StudyView:
    """Read the study at its highest fidelity that has a result, with the lower ones; the storage is opened once."""
    return highest_view(views_of(place))


def highest_view(views: list[StudyView]) -> StudyView:
    """Return the last view with a complete trial, else the first, with those below it."""
    judged = max((at for at, view in enumerate(views) if view.count("COMPLETE")), default=0)
    return replace(views[judged], lower=tuple(reversed(views[:judged])))


def views_of(place: StudyPlace) -> list[StudyView]:
    """Read the study, and of a whole one its later fidelities that have begun, in one opening of the storage."""
    found = load_fidelities(place.url, place.name, folder=place.folder)
    return [StudyView(**vars(one), peers=_peers_of(one)) for one in (found if place.is_whole else found[:1])]


def _peers_of(study: RecordedStudy) -> pd.DataFrame | None:
    """Return the published networks that were measured on the device of the study's latency, or ship for such a one."""
    profile, scale = study.spec.profiles.get(LATENCY), study.attributes.get("reference")
    reference = profile.reference if profile else Reference.from_dict(scale) if scale else None
    if reference is None or LATENCY not in study.spec.quantities:
        return None
    file = cache_file(study.spec.profile_files.get(LATENCY) if profile else None)
    found = peer_table(file, reference.device.text, with_shipped=True, reference_ms=reference.ms)
    found = found.dropna(subset=["top1_percent"])
    return None if found.empty else found


def agreement_with_lower(place: StudyPlace, upper: str) -> list[str]:
    """Return what was seen of the fidelity below the study `upper`, in sentences; none where too few have both."""
    if upper == place.name:
        return []
    views = views_of(place)
    at = [view.name for view in views].index(upper)
    return replace(views[at], lower=(views[at - 1],)).agreement_lines
