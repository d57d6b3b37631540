"""A table's trainings as evidence: of their own data and recipe alone, with the error of their validation images."""

from dataclasses import replace

import pytest

from starsearch.bench.evidence import read_table_evidence
from starsearch.bench.making import training_slice
from starsearch.bench.table import append_row
from starsearch.data import open_data
from starsearch.errors import StudyError
from starsearch.families.text import parse_architecture
from starsearch.recipe import Fidelity
from starsearch.study.recipe_file import load_recipe
from starsearch.study.study_file import load_specs

TINY = Fidelity(name="tiny", resolution=16, epochs=2, samples=64, validation_samples=100, recipe="digits")
STAR, SUM = "starnet:embed_dim=24,depths=2-2-8-3", "starnet:embed_dim=24,depths=2-2-8-3,ops=sum"


def test_trainings_are_evidence_of_the_data_and_the_recipe_they_were_made_with(tmp_path):
    data = open_data("digits")
    (spec,) = load_specs("starnet", data="digits")
    spec = replace(spec, fidelity=replace(TINY, name="own"), recipe=load_recipe("digits"))
    row = {"fidelity": "tiny", "seed": 0, "conditions": training_slice(TINY, data, wanted=()).conditions}
    append_row(tmp_path, {**row, "network": STAR, "top1_percent": 90.0})
    append_row(tmp_path, {**row, "network": SUM, "top1_percent": 50.0})
    append_row(tmp_path, {**row, "network": "demonet:width=96", "top1_percent": 40.0})
    append_row(tmp_path, {**row, "network": STAR, "seed": 1, "failed": "diverged"})
    found, lines = read_table_evidence(tmp_path, [TINY], spec, data)
    assert [(one.architecture, one.value, one.task) for one in found] == [
        (parse_architecture(STAR), 90.0, "digits/own"),
        (parse_architecture(SUM), 50.0, "digits/own"),
    ]
    assert [one.standard_error for one in found] == pytest.approx([3.0, 5.0])
    assert [line.split(": ")[1] for line in lines] == ["2 trainings at tiny."]
    found, lines = read_table_evidence(tmp_path, [TINY], replace(spec, seed=1), data)
    assert {one.task for one in found} == {"digits/own, seed 0"}
    assert lines[1:] == ["  By other seeds, which draw other images, so tasks of their own: 0."]
    longer = replace(spec, fidelity=replace(TINY, epochs=3))  # under the table's own name
    found, lines = read_table_evidence(tmp_path, [TINY], longer, data)
    assert {one.task for one in found} == {f"{tmp_path.name}: digits/tiny"}
    assert lines[1:] == ["  Trained otherwise, so a task of its own: fidelity.epochs: was 2, now 3."]
    with pytest.raises(StudyError, match="leave --from out"):
        read_table_evidence(tmp_path, [replace(TINY, epochs=9)], spec, data)
