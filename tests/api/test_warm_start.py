"""A study whose trainings begin with the weights of one network, by the real command line."""

import pandas as pd
import pytest

from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.training.weight_file import save_weights
from tests.api.conftest import TINY_SPACE, UNTIMED
from tests.command_line import starsearch

STUDY = f"""\
space: tiny.yaml
anchors: []
{UNTIMED}fidelities:
  - {{resolution: 32, epochs: 1, samples: 100, validation_samples: 100, recipe: digits, weights: given.safetensors}}
recipe: {{lr: 1.0e-7, warmup_epochs: 0, min_lr: 0, batch_size: 50}}
search: {{trials: 2, sampler: random, seed: 1}}
"""


@pytest.fixture
def study(tmp_path):
    (tmp_path / "files").mkdir()
    (tmp_path / "files/tiny.yaml").write_text(TINY_SPACE)
    (tmp_path / "files/warm.yaml").write_text(STUDY)
    save("starnet:embed_dim=16,depths=1-1-3-1,mlp_ratio=3", tmp_path)
    return tmp_path


def save(text, folder):
    save_weights(build_model(parse_architecture(text), num_classes=10), folder / "files/given.safetensors")


def test_trainings_begin_with_them_and_a_study_is_resumed_with_no_others(study):
    done = starsearch("run", "files/warm.yaml", cwd=study)
    assert done.returncode == 0, done.stderr
    trials = pd.read_csv(study / "studies/warm/trials.csv")
    assert (trials["state"] == "COMPLETE").all()
    kept = list((study / "studies/warm/weights").glob("*.safetensors"))
    assert kept
    for file in kept:  # which have hardly learned
        found, given = (load(path)["stem.0.conv.weight"] for path in (file, study / "files/given.safetensors"))
        assert (found - given).abs().max() < 1e-4
    save("starnet:embed_dim=16,depths=1-1-3-1,mlp_ratio=3", study)
    refused = starsearch("run", "files/warm.yaml", "--trials", "3", cwd=study)
    assert refused.returncode == 2
    assert "fidelity.weights: was given.safetensors (" in refused.stderr


def load(path):
    from safetensors.torch import load_file

    return load_file(path)


def test_weights_of_another_family_are_refused_before_anything_is_trained(study):
    save("demonet:width=16,depths=2", study)
    refused = starsearch("run", "files/warm.yaml", cwd=study)
    assert refused.returncode == 2
    assert "'proxy' cannot begin with its weights: The weights to begin with are of no StarNet" in refused.stderr
    assert not (study / "studies").exists()
