"""Figures measured on another device (a phone, by any app), brought into a study."""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.api.study import write_study_report
from starsearch.api.study_folder import StudyPlace, place_of, studies_at
from starsearch.errors import SpecError, StudyError
from starsearch.families.text import architecture_hash, parse_architecture
from starsearch.measurement import Measurement
from starsearch.objective import LATENCY, THIS_MACHINE

if TYPE_CHECKING:
    from starsearch.latency.profile import Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What an import has brought.

    Attributes:
        name: of the quantity the figures stand under: "latency_ms", "latency_ms@LABEL".
        networks: how many architectures of the study have a figure now that the file names.
        passed_over: architectures of the file that the study has not evaluated, as they are written.
        files: of the report, written anew; empty for a study without a folder.
    """

    name: str
    networks: int
    passed_over: tuple[str, ...]
    files: tuple[Path, ...]


def import_measurements(study: str, path: Path, *, device: str) -> Imported:
    """Write latencies measured elsewhere into a study, where they stand in for what was predicted.

    Args:
        study: folder or NAME@STORAGE-URL.
        path: CSV with the columns architecture and ms (`starsearch.latency.imported`).
        device: label of the quantity (phone, for latency_ms@phone) or name of the profile that predicts it; with
            another label the figures stand beside the study's as latency_ms@LABEL.

    Raises:
        SpecError: the file cannot be read, or the label holds other than letters, digits, - and _.
        StudyError: no such study, none of its architectures is in the file, or the quantity is measured in trials.
        StudyLeasedError: a driver works on the study.
    """
    from starsearch.latency.imported import read_samples
    from starsearch.records import OpenStudy, hold_lease, keep_measured, load_devices

    place = place_of(study)
    name = _quantity_of(device, load_devices(place.url, place.name))
    studies = studies_at(place)
    complete = [one.trials[one.trials["state"] == "COMPLETE"] for one in studies]
    known = {key for trials in complete for key in trials["architecture"]}
    samples = {architecture_hash(parse_architecture(one.architecture)): one for one in read_samples(path)}
    found = {key: sample for key, sample in samples.items() if key in known}
    if not found:
        raise StudyError(
            f"None of the {len(samples)} architectures in {path} is one that {place.name!r} has evaluated. Measure "
            "those of its front.csv (the column architecture_text)."
        )
    for one in studies:
        with closing(OpenStudy.find(place.url, one.name)) as opened, hold_lease(opened) as lease:
            for key, sample in found.items():
                lease.check()
                keep_measured(opened, key, _measurement(name, sample, device))
    return Imported(
        name=name,
        networks=len(found),
        passed_over=tuple(sample.architecture for key, sample in samples.items() if key not in known),
        files=_report(place),
    )


def _measurement(name: str, sample: Sample, device: str) -> Measurement:
    return Measurement(name=name, value=sample.ms, runs=max(sample.pairs, 1), spread=sample.spread_ms, device=device)


def _report(place: StudyPlace) -> tuple[Path, ...]:
    return () if place.folder is None else tuple(write_study_report(place))


def _quantity_of(device: str, devices: Mapping[str, str]) -> str:
    """The name of the quantity that `device` is about, of those of `load_devices` or a new one.

    Raises:
        SpecError: the label cannot be part of a name.
        StudyError: the study's trials measure it themselves.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", device) is None:
        raise SpecError(f"A device's label is made of letters, digits, - and _; got {device!r}.")
    labelled = f"{LATENCY}@{device}"
    name = labelled if labelled in devices else next((n for n, of in devices.items() if of == device), labelled)
    if devices.get(name) == THIS_MACHINE:
        raise StudyError(
            f"{name} is measured on this machine in every trial of the study; figures of another device cannot stand "
            "in for it. Give them another --device."
        )
    return name
