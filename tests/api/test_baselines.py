"""A study that trains a model of timm's beside its candidates, by the real command line."""

import pandas as pd
import pytest
import timm
import torch

from starsearch.api.exporting import export_networks
from starsearch.errors import ExportError, SpecError
from starsearch.evaluators.footprint import FILE_SIZE, measure_footprint
from starsearch.families.text import parse_architecture
from starsearch.study.study_file import load_study
from tests.api.conftest import TINY_SPACE, UNTIMED
from tests.command_line import starsearch

NAME = "timm:mobilenetv3_small_050"
STUDY = f"""\
space: tiny.yaml
anchors: []
baselines: [{NAME}]
{UNTIMED}fidelities:
  - {{resolution: 32, epochs: 1, samples: 100, validation_samples: 100, recipe: digits}}
  - {{name: full, resolution: 32, epochs: 1, samples: 100, validation_samples: 100, recipe: digits, promote: 1,
     start: weights}}
recipe: {{batch_size: 50}}
search: {{trials: 2, sampler: tpe, seed: 1}}
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY_SPACE)
    (tmp_path / "beside.yaml").write_text(STUDY)
    return tmp_path


def test_a_baseline_is_trained_like_an_anchor_and_stands_under_the_front(folder):
    done = starsearch("run", "beside.yaml", cwd=folder)
    assert done.returncode == 0, done.stderr
    trials = pd.read_csv(folder / "studies/beside/trials.csv")
    assert (trials["state"] == "COMPLETE").all(), trials["reason"].tolist()
    assert trials.groupby("study").size().to_dict() == {"beside": 3, "beside.full": 2}
    (first, full) = trials[trials["anchor"] == NAME].to_dict("records")
    module = timm.create_model("mobilenetv3_small_050", num_classes=10)
    weights = [one for one in module.modules() if isinstance(one, torch.nn.Conv2d | torch.nn.Linear)]
    seen = []
    for one in weights:
        one.register_forward_hook(lambda layer, _, out: seen.append(out[0].numel() * layer.weight[0].numel()))
    module.eval()(torch.zeros(1, 3, 64, 64))
    assert full["num_params"] == sum(one.numel() for one in module.parameters())
    assert full["macs"] == sum(seen)
    assert full["promoted_from"] == first["number"]
    front = pd.read_csv(folder / "studies/beside/front.csv")
    assert NAME in front["anchor"].tolist()
    assert (folder / "studies/beside/report.html").is_file()


@pytest.mark.parametrize(
    ("baseline", "words"),
    [
        ("mobilenetv3_small_050", "a baseline is a model of timm's, as timm:NAME"),
        ("timm:mobilenet_v9", "has no model 'mobilenet_v9'. Did you mean"),
        (
            "timm:vit_tiny_patch16_224",
            "baselines=[timm:vit_tiny_patch16_224]: timm:vit_tiny_patch16_224 does not take images of 32",
        ),
    ],
)
def test_a_baseline_that_cannot_be_trained_is_refused_before_anything_is(folder, baseline, words):
    refused = starsearch("run", "beside.yaml", "--set", f"baselines=[{baseline}]", cwd=folder)
    assert refused.returncode == 2
    assert words in " ".join(refused.stderr.split())
    assert not (folder / "studies").exists()


def test_a_baseline_that_timm_does_not_have_is_named_with_its_line(folder):
    (folder / "beside.yaml").write_text(STUDY.replace(NAME, "timm:mobilenet_v9"))
    line = STUDY.splitlines().index(f"baselines: [{NAME}]") + 1
    with pytest.raises(SpecError, match=rf"beside.yaml, line {line}, baselines.0: timm .* has no model"):
        load_study(str(folder / "beside.yaml"))


def test_baselines_may_be_added_later(folder):
    more = load_study(str(folder / "beside.yaml"))
    fewer = load_study(str(folder / "beside.yaml"), settings=["baselines=[]"])
    assert more.describe() == fewer.describe()
    assert (more.num_anchor_trials, fewer.num_anchor_trials) == (1, 0)


def test_baselines_are_refused_where_the_study_wants_int8_networks(folder):
    with pytest.raises(SpecError, match="only networks of the space are made int8: leave baselines out, or int8_top1"):
        load_study(str(folder / "beside.yaml"), settings=["constraints.int8_top1_percent={min: 50}"])


def test_a_model_of_timms_has_a_file_size_and_is_not_exported(tmp_path):
    baseline = parse_architecture(NAME)
    (size,) = measure_footprint(baseline, [FILE_SIZE], resolution=32, num_classes=10)
    module = timm.create_model("mobilenetv3_small_050", num_classes=10)
    assert size.value == pytest.approx(4e-6 * sum(one.numel() for one in module.parameters()), rel=0.1)
    with pytest.raises(ExportError, match="does not export"):
        export_networks(NAME, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
