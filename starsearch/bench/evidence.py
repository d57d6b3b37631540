"""A table of trainings as evidence about accuracy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from starsearch.accuracy.evidence import Observation
from starsearch.bench.making import training_slice
from starsearch.bench.table import read_table
from starsearch.data import DataSet
from starsearch.errors import StudyError, counted
from starsearch.families.text import parse_architecture
from starsearch.recipe import Fidelity
from starsearch.records.record import differences
from starsearch.search.evidence import draws_images, task_of
from starsearch.study.recipe_file import load_recipe
from starsearch.study.spec import StudySpec


def read_table_evidence(
    folder: Path, fidelities: Iterable[Fidelity], spec: StudySpec, data: DataSet
) -> tuple[list[Observation], list[str]]:
    """Return what a table's trainings on `data` say of the accuracy of networks of a study's family, and that in words.

    Trainings that are the study's own in all but the fidelity's name are of its task, others of a task of their own,
    whatever their fidelity's name; so are those by another seed, whose images move all networks alike.

    Args:
        fidelities: those whose rows are read, if they were made by the recipe and on the data that they have now.

    Raises:
        StudyError: no row of the table is of them.
    """
    rows = read_table(folder).dropna(subset="top1_percent")
    found: list[Observation] = []
    lines = []
    for fidelity in fidelities:
        conditions = training_slice(fidelity, data, wanted=()).conditions
        own = rows[(rows["fidelity"] == fidelity.name) & (rows["conditions"] == conditions)]
        theirs = replace(spec, fidelity=replace(fidelity, name=spec.fidelity.name), recipe=load_recipe(fidelity.recipe))
        task = task_of(spec) if theirs == spec else f"{folder.name}: {spec.data}/{fidelity.name}"
        images = min(fidelity.validation_samples or data.num_validation, data.num_validation)
        others = sorted({*own["seed"].astype(int)} - {spec.seed}) if draws_images(fidelity) else []
        new = [
            Observation(
                architecture=network,
                task=f"{task}, seed {seed}" if seed in others else task,
                value=top1,
                standard_error=(top1 * (100 - top1) / images) ** 0.5,
                source=folder.name,
            )
            for network, seed, top1 in zip(
                map(parse_architecture, own["network"]), own["seed"].astype(int), own["top1_percent"], strict=True
            )
            if network.family == spec.space.family
        ]
        if new:
            lines.append(f"Evidence from {folder}: {counted(len(new), 'training')} at {fidelity.name}.")
        if new and theirs != spec:
            changed = differences(theirs.describe(), spec.describe()).values()
            lines.append(f"  Trained otherwise, so a task of its own: {'; '.join(changed)}.")
        if new and others:
            seeds = ", ".join(map(str, others))
            lines.append(f"  By other seeds, which draw other images, so tasks of their own: {seeds}.")
        found += new
    if not found:
        raise StudyError(
            f"No training in {folder} is of {spec.space.family} networks on {data.name}, by the recipe and at the "
            "fidelity that its name has now. Name a table of the same data and family, or leave --from out."
        )
    return found, lines
