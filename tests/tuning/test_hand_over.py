"""A training that goes on by another recipe, as in Population Based Training."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from starsearch.data import open_data
from starsearch.errors import StudyError
from starsearch.families.text import parse_architecture
from starsearch.recipe import Fidelity, Recipe
from starsearch.training import Hardware, train
from starsearch.tuning.trainable import RecipeTraining, hand_over

OLD = Recipe(epochs=3, batch_size=64, hflip=0.0, warmup_epochs=0)


def run(recipe, checkpoint, until):
    """What is said after each epoch."""
    steps = train(
        parse_architecture("starnet:embed_dim=8,depths=1-1-1-1"),
        data=open_data("digits"),
        recipe=recipe,
        fidelity=Fidelity(resolution=32, samples=192, validation_samples=100),
        seed=0,
        until=until,
        checkpoint=checkpoint,
    )
    return {step.epoch: dict(step.values) for step in steps if step.epoch is not None}


def optimizer_of(file):
    return torch.load(file, weights_only=True)["optimisation"]["optimizer"]


def test_a_training_goes_on_where_it_was_by_the_new_recipes_rates(tmp_path):
    file = tmp_path / "training.pt"
    run(OLD, file, until=1)
    weights = torch.load(file, weights_only=True)["optimisation"]["model"]
    new = replace(OLD, lr=OLD.lr / 4, weight_decay=0.2, drop_path=0.1, mixup=0.4)
    hand_over(file, old=OLD, new=new)
    kept = torch.load(file, weights_only=True)["optimisation"]["model"]
    assert all(torch.equal(kept[name], tensor) for name, tensor in weights.items())
    assert {group["weight_decay"] for group in optimizer_of(file)["param_groups"]} == {0.0, 0.2}
    after = run(new, file, until=2)
    assert list(after) == [2], "the first epoch is not trained again"
    # Of the new recipe from its start, the schedule's rate is the same after as many steps.
    alone = run(new, tmp_path / "alone.pt", until=2)
    assert after[2]["learning_rate"] == pytest.approx(alone[2]["learning_rate"])
    assert {group["weight_decay"] for group in optimizer_of(file)["param_groups"]} == {0.0, 0.2}


def test_to_the_same_recipe_nothing_changes_to_the_bit(tmp_path):
    file = tmp_path / "training.pt"
    first = run(OLD, file, until=1)
    hand_over(file, old=OLD, new=OLD)
    images = "images_per_second"
    rest = run(OLD, file, until=None)
    whole = run(OLD, None, until=None)
    assert {e: {n: v for n, v in values.items() if n != images} for e, values in (first | rest).items()} == {
        e: {n: v for n, v in values.items() if n != images} for e, values in whole.items()
    }


def test_what_is_of_another_training_is_not_handed_over(tmp_path):
    file = tmp_path / "training.pt"
    run(OLD, file, until=1)
    with pytest.raises(StudyError, match=r"training.pt is not of a training by"):
        hand_over(file, old=replace(OLD, lr=0.5), new=OLD)


def test_a_recipes_training_computes_in_the_fidelitys_precision():
    network, data = parse_architecture("starnet:embed_dim=8,depths=1-1-1-1"), open_data("digits")
    fidelity = Fidelity(resolution=32, epochs=1, samples=192, validation_samples=100, precision="bfloat16")
    training = RecipeTraining.__new__(RecipeTraining)  # Ray's own constructor wants a cluster
    spec = SimpleNamespace(fidelity=fidelity, seed=0)
    training._tuned = SimpleNamespace(architecture=network, data=data, spec=spec, decode=lambda _: OLD)
    training._schedule = [{"since": 1, "params": {}}]

    def last_loss(steps):
        return [step.values["train_loss"] for step in steps if step.epoch is not None][-1]

    found = last_loss(training._train(until=None, checkpoint=None))
    losses = [
        last_loss(
            train(network, data=data, recipe=OLD, fidelity=fidelity, seed=0, hardware=Hardware(precision=precision))
        )
        for precision in ("bfloat16", "float32")
    ]
    assert found == losses[0] != losses[1]
