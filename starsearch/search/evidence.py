"""A study's trials as evidence about accuracy."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

from starsearch.accuracy.evidence import Observation, published_observations
from starsearch.errors import StudyError, counted
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.measurement import Measurement
from starsearch.objective import is_accuracy
from starsearch.recipe import Fidelity
from starsearch.records.record import FIDELITIES, StudyRecord, differences
from starsearch.study.spec import StudySpec
from starsearch.trial import Trial

_TOP1 = "top1_percent"
_EVIDENCE = "evidence"  # the attribute that has it: the results, not where they were found


def task_of(spec: StudySpec, *, epochs: int | None = None) -> str:
    """Return the task of a study's trials: data and fidelity, of those stopped at a rung also what trains there."""
    rung = next((one for one in (spec.halving.rungs if spec.halving else ()) if one.epochs == epochs), None)
    images = f" of {rung.samples} images" if rung and rung.samples else ""
    pixels = f" at {rung.resolution} px" if rung and rung.resolution else ""
    return f"{spec.data}/{spec.fidelity.name}" + (f"@{epochs}{images}{pixels}" if epochs else "")


def is_evidence(trial: Trial, spec: StudySpec) -> bool:
    """Return whether a trial's result says something of its architecture alone.

    One with a recipe or a resolution of its own is left out, as is a network of timm's.
    """
    own = trial.candidate.recipe != spec.recipe or trial.candidate.resolution not in (None, spec.space.resolution)
    return trial.has_result and not own and not trial.is_baseline


def draws_images(fidelity: Fidelity) -> bool:
    """Return whether a seed draws the images, and so moves all networks alike."""
    return fidelity.samples is not None or fidelity.validation_samples is not None


def evidence_on(quantity: str, evidence: Iterable[Observation]) -> list[Observation]:
    """Return what another study says as it bears on an accuracy: its top-1 is another task than top-5, say."""
    if quantity == _TOP1:
        return list(evidence)
    return [replace(one, task=f"{_TOP1} of {one.task}") for one in evidence]


def observations(spec: StudySpec, trials: Iterable[Trial], quantity: str = _TOP1) -> list[Observation]:
    """Return what trials that have a result say of their networks' accuracy.

    What is learned is the architecture's (`is_evidence`). A training that passed
    rungs without a stop was judged there as well, if it trained as those that stop there do.
    """
    found = []
    rungs = spec.halving.rungs if spec.halving else ()
    passed = [one.epochs for one in rungs if one.samples is None and one.resolution is None]
    first = next((one.name for one in spec.objectives if is_accuracy(one.name)), None)
    for trial in trials:
        reading = trial.reading(quantity)
        if reading is None or not is_evidence(trial, spec):
            continue
        seen: dict[int | None, float] = {trial.epochs: float(reading.value)}
        if quantity == first and trial.continues is None:
            last = trial.epochs or spec.num_epochs
            seen |= {epoch: trial.curve[epoch] for epoch in passed if epoch < last and epoch in trial.curve}
        spread = (reading.spread if isinstance(reading, Measurement) else None) or 0.0
        found += [
            Observation(
                architecture=trial.candidate.architecture,
                task=task_of(spec, epochs=epochs),
                value=value,
                standard_error=spread if math.isfinite(spread) else 0.0,
                source=spec.name,
            )
            for epochs, value in seen.items()
            if 0 <= value <= 100  # others are of an evaluator of one's own
        ]
    return found


def all_observations(
    spec: StudySpec, trials: Iterable[Trial], quantity: str, evidence: Iterable[Observation]
) -> list[Observation]:
    """Return all that is known of an accuracy: what is published, `evidence` on the family, and a study's trials."""
    family = spec.space.family
    others = [one for one in evidence_on(quantity, evidence) if one.architecture.family == family]
    return [*published_observations(family), *others, *observations(spec, trials, quantity)]


def read_evidence(url: str, name: str, spec: StudySpec, *, data: str) -> tuple[list[Observation], list[str]]:
    """Return what another study says of its networks' accuracy, and in words how it differs from the one of `spec`.

    Results by another recipe or at another fidelity are a task of their own: what they are worth is learned.

    Args:
        url, name: where the other study is recorded, with all its fidelities.
        data: the data set's counts and fingerprint in words, as records have them.

    Raises:
        StudyError: the other study is of other data, or of networks of another family.
    """
    first = StudyRecord.find(url, name)
    found: list[Observation] = []
    lines = []
    for number, fidelity in enumerate(first.attribute(FIDELITIES) or [name]):
        try:
            record = StudyRecord.find(url, fidelity) if number else first
        except StudyError:  # a later fidelity that has not begun
            continue
        with closing(record):
            _refuse_others(record, spec, data)
            ended = [one for one in record.trials() if one.has_result and not one.is_baseline]
            own = observations(record.spec, ended)
            changed = differences(record.spec.describe(), spec.describe())
        otherwise = ("recipe.", "fidelity.", *(("seed",) if draws_images(spec.fidelity) else ()))
        trained = [words for item, words in changed.items() if item.startswith(otherwise) and item != "fidelity.name"]
        searched = [words for item, words in changed.items() if item.startswith("space.") and item != "space.anchors"]
        task = f"{fidelity}: {task_of(record.spec)}" if trained else task_of(spec)
        found += [replace(one, task=one.task.replace(task_of(record.spec), task, 1)) for one in own]
        lines.append(f"Evidence from {fidelity}: {counted(len(own), 'result')}.")
        if left := sum(not is_evidence(one, record.spec) for one in ended):
            lines.append(f"  {counted(left, 'result')} of recipes or resolutions of their own left out.")
        if trained:
            lines.append(f"  Trained otherwise, so a task of its own: {'; '.join(trained)}.")
        if searched:
            outside = sum(spec.space.why_outside(one.architecture) is not None for one in own)
            lines.append(f"  Of another space, {outside} of its networks outside this one: {'; '.join(searched)}.")
    return found, lines


def keep_evidence(record: StudyRecord, found: Sequence[Observation]) -> None:
    """Write what another study says to a study's record, in place of what it had."""
    rows = [
        [format_architecture(one.architecture), one.task, one.value, one.standard_error, one.source] for one in found
    ]
    if record.attribute(_EVIDENCE) != rows:
        record.set_attribute(_EVIDENCE, rows)


def kept_evidence(attributes: Mapping[str, Any]) -> list[Observation]:
    """Return what a study with these attributes was told of another one's results."""
    return [
        Observation(architecture=parse_architecture(text), task=task, value=value, standard_error=error, source=source)
        for text, task, value, error, source in attributes.get(_EVIDENCE, ())
    ]


def _refuse_others(record: StudyRecord, spec: StudySpec, data: str) -> None:
    theirs, family = record.attribute("conditions").get("data"), record.spec.space.family
    if theirs != data:
        raise StudyError(
            f"Accuracies on other data are no evidence here: {record.name} was run on {theirs}; this study has {data}. "
            "Name a study of the same data, or leave --from out."
        )
    if family != spec.space.family:
        raise StudyError(f"{record.name} searched {family} networks, which say nothing of {spec.space.family} ones.")
