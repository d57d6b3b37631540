"""Schemas of the files that a user writes: the shipped ones fit them."""

import json

import jsonschema
import pytest

from starsearch.cli.schema import file_schema
from starsearch.resources import shipped_folder, shipped_names
from starsearch.yaml_file import read_yaml
from tests.study.malformed import STUDY

KINDS = {"space": "spaces", "recipe": "recipes", "runner": "runners", "profile": "profiles"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_shipped_file_fits_its_schema(kind):
    schema = file_schema(kind)
    for name in shipped_names(KINDS[kind]):
        jsonschema.validate(read_yaml(shipped_folder(KINDS[kind]) / f"{name}.yaml").data, schema)


def test_a_studys_schema_takes_a_study_and_refuses_a_misspelt_key(starsearch, tmp_path):
    code, out, _ = starsearch("schema", "study")
    schema = json.loads(out)
    path = tmp_path / "study.yaml"
    path.write_text(STUDY)
    study = read_yaml(path).data
    jsonschema.validate(study, schema)
    assert (code, "latency_ms" in json.dumps(schema)) == (0, True)
    for place in (study, study["search"], study["fidelities"][0], study["recipe"]["lr"]):
        place["sampeler"] = "tpe"
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(study, schema)
        del place["sampeler"]
