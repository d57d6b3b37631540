from pathlib import Path

import pytest

from starsearch.errors import SpecError
from starsearch.study.recipe_file import load_recipe
from starsearch.study.runner_file import RayRunner, TaskResources, load_runner
from starsearch.study.spec import Promotion
from starsearch.study.study_file import load_specs

PROXY = "{name: proxy, epochs: 1, recipe: proxy}"
FULL = "{name: full, epochs: 300, resolution: 224, recipe: starnet-imagenet, promote: 5"


def load(folder, fidelities, more="", **options):
    (folder / "s.yaml").write_text(f"space: starnet\nfidelities: [{fidelities}]\n{more}")
    return load_specs(str(folder / "s.yaml"), **options)


def test_each_fidelity_is_a_study_of_its_own_recipe(tmp_path):
    first, full = load(tmp_path, f"{PROXY}, {FULL}, promote_random: 2, start: weights}}", "search: {trials: 20}")
    assert (first.name, full.name) == ("s", "s.full")
    assert (first.promotion, full.promotion) == (None, Promotion(best=5, random=2, start="weights"))
    assert (first.trials, full.trials) == (20, 7)
    assert first.recipe.batch_size < full.recipe.batch_size == 2048
    assert first.keep_weights == full.keep_weights == "all", "trainings begin with them"


def test_what_the_study_changes_in_the_recipe_holds_at_every_fidelity(tmp_path):
    specs = load(tmp_path, f"{PROXY}, {FULL}}}", "recipe: {smoothing: 0.2, drop_path: {low: 0.0, high: 0.2}}")
    assert [spec.recipe.smoothing for spec in specs] == [0.2, 0.2]
    assert [p.name for p in specs[1].space.recipe_parameters] == ["recipe.drop_path"]


def test_settings_change_single_values_by_name_or_number(tmp_path):
    settings = ["fidelities.full.epochs=2", "fidelities.0.samples=64", "search.trials=6", "recipe.batch_size=32"]
    first, full = load(tmp_path, f"{PROXY}, {FULL}}}", settings=settings)
    assert (full.fidelity.epochs, first.fidelity.samples, first.trials) == (2, 64, 6)
    assert full.recipe.batch_size == first.recipe.batch_size == 32


def test_a_fidelity_evaluated_on_gpus_takes_bfloat16_unless_it_says_otherwise(tmp_path):
    runner = RayRunner(resources=TaskResources(gpu=0.25), fidelities={"last": TaskResources()})
    more = f"{FULL}}}, {{name: said, precision: float32, promote: 1}}, {{name: last, promote: 1}}"
    specs = load(tmp_path, f"{PROXY}, {more}", has_gpu=runner.has_gpu)
    precisions = ["bfloat16", "bfloat16", "float32", "float32"]
    assert [spec.describe()["fidelity.precision"] for spec in specs] == precisions
    assert {spec.fidelity.precision for spec in load(tmp_path, f"{PROXY}, {more}")} == {"float32"}


def test_every_fidelity_keeps_the_weights_that_the_next_begins_with(tmp_path):
    steps = f"{PROXY}, {FULL}}}, {{name: last, epochs: 2, promote: 1, start: weights}}"
    specs = load(tmp_path, steps, "search: {keep_weights: none}")
    assert [spec.keep_weights for spec in specs] == ["none", "all", "none"]


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("search.trials", "takes KEY=VALUE"),
        ("fidelities.ful.epochs=2", "fidelities has no 'ful'; it has proxy, full"),
        ("fidelities.7.epochs=2", "has no '7'"),
        ("space.name=3", "is a single value"),
        ("search.trails=6", "unknown key 'trails'. Did you mean 'trials'?"),
        ("search.trials=many", "--set search.trials=many: "),
        ("search.trials=[", "not YAML"),
    ],
)
def test_a_setting_that_cannot_be_made_is_refused(tmp_path, setting, words):
    with pytest.raises(SpecError) as caught:
        load(tmp_path, f"{PROXY}, {FULL}}}", settings=[setting])
    assert words in str(caught.value)


@pytest.mark.parametrize("runner", ["imagenet-8gpu", "imagenet-cluster"])
def test_the_imagenet_study_climbs_from_proxies_to_the_papers_recipe_and_its_runners_know_its_fidelities(runner):
    study = Path(__file__).parents[2] / "studies/imagenet/study.yaml"
    proxy, short, full = load_specs(str(study))
    assert (short.name, full.name) == ("imagenet.short", "imagenet.full")
    assert full.recipe == load_recipe("starnet-imagenet")
    assert (full.recipe.epochs, full.fidelity.resolution, full.fidelity.crop_pct) == (300, 224, 0.875)
    assert [spec.space.anchors for spec in (proxy, short, full)] == [proxy.space.anchors] * 3
    assert set(load_runner(runner).fidelities) <= {"proxy", "short", "full"}
