"""A study's spec as JSON, the form in which its record keeps it."""

import json
from dataclasses import replace

import pytest

from starsearch.errors import StudyError
from starsearch.latency.prediction.profile import save_profile
from starsearch.study.spec import StudySpec
from starsearch.study.study_file import load_specs
from tests.profiles import make_profile

STUDY = """
space: {space}
recipe: {{lr: {{low: 1e-3, high: 1e-2, log: true}}, ema_decay: [null, 0.99], epochs: 9, crop_scale: [0.2, 1.0]}}
constraints: {{latency_ms: {{max: 15}}}}
objectives: {{top1_percent: maximize, latency_ms: {{device: phone.yaml}}}}
fidelities: [{{name: a}}, {{name: b, promote: 2, start: weights}}]
search: {{halving: {{rungs: [1, {{epochs: 3, samples: 50}}]}}}}
"""
SPACE = "dimensions: {kernel_size: {fixed: [3, 5, 5, 7]}, depths: [2, 2, {low: 2, high: 9}, 3], mlp_ratio: [2, 3.5]}"


def test_a_spec_is_read_back_as_it_was_written_but_for_the_samples_of_its_profiles(tmp_path):
    save_profile(make_profile("phone"), tmp_path / "phone.yaml")
    (tmp_path / "space.yaml").write_text(SPACE)
    (tmp_path / "study.yaml").write_text(STUDY.format(space="space.yaml"))
    for spec in load_specs(str(tmp_path / "study.yaml")):
        bare = {name: replace(profile, samples=()) for name, profile in spec.profiles.items()}
        read = StudySpec.from_json(json.loads(json.dumps(spec.to_json())))
        assert repr(read) == repr(replace(spec, profiles=bare)), "0 is not 0.0, nor a list a tuple"


def test_a_field_that_came_later_has_its_default_and_one_of_a_later_version_is_refused():
    (spec,) = load_specs("starnet")
    data = spec.to_json()
    del data["recipe"]["teacher"], data["anchor_recipes"]
    assert StudySpec.from_json(data) == spec
    data["recipe"]["telepathy"] = 1
    with pytest.raises(StudyError, match="another version of starsearch"):
        StudySpec.from_json(data)
