import dataclasses
import itertools
from pathlib import Path

import pytest
import torch

from starsearch.errors import StudyError
from starsearch.families.network import build_model
from starsearch.recipe import Fidelity, Recipe
from starsearch.training import checkpoint as module
from starsearch.training.weight_file import save_weights
from tests.training.test_loop import RECIPE, SHORT, TINY
from tests.training.test_loop import run as run_once

FOUR = dataclasses.replace(RECIPE, epochs=4)
RECIPES = {
    "plain": FOUR,
    "everything": Recipe(
        batch_size=32, epochs=4, mixup=0.8, cutmix=1.0, random_erasing=0.25, drop_path=0.2, drop_rate=0.1, ema_decay=0.9
    ),
    "single images": Recipe(
        batch_size=32, epochs=4, auto_augment="rand-m5-mstd0.5-inc1", crop="random-resized", optimizer="lamb"
    ),
    "sgd by steps": dataclasses.replace(FOUR, optimizer="sgd", schedule="step", cooldown_epochs=1, warmup_epochs=1.5),
}


def run(recipe=FOUR, **options):
    return run_once(recipe=recipe, **options)


def same(one, other):
    states = one.model.state_dict(), other.model.state_dict()
    return all(torch.equal(states[0][name], states[1][name]) for name in states[0]) and (
        one.top1_percent == other.top1_percent
    )


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_a_training_in_three_parts_ends_as_one_without_a_break_to_the_bit(recipe, tmp_path):
    whole_progress, whole = run(recipe)
    file = tmp_path / "kept" / "a.pt"
    parts = [run(recipe, checkpoint=file, until=until) for until in (1, 3, None)]
    assert [part.epochs for _, part in parts] == [1, 3, whole.epochs]
    assert same(whole, parts[-1][1])
    curves = [[(p.epoch, p.values["top1_percent"]) for p in progress if p.epoch] for progress, _ in parts]
    assert [*itertools.chain(*curves)] == [(p.epoch, p.values["top1_percent"]) for p in whole_progress if p.epoch]
    rates = [p.values["learning_rate"] for progress, _ in parts for p in progress if p.epoch]
    assert rates == [p.values["learning_rate"] for p in whole_progress if p.epoch]
    fractions = [p.fraction for progress, _ in parts for p in progress]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_a_part_that_was_finished_already_gives_its_result_again(tmp_path):
    _, first = run(checkpoint=tmp_path / "a.pt", until=2)
    progress, again = run(checkpoint=tmp_path / "a.pt", until=2)
    assert same(first, again)
    assert not [p for p in progress if p.epoch]


def test_between_two_parts_the_images_may_grow(tmp_path):
    small = dataclasses.replace(SHORT, resolution=16, samples=64)
    run(fidelity=small, checkpoint=tmp_path / "a.pt", until=2)
    progress, result = run(fidelity=Fidelity(resolution=32, samples=128), checkpoint=tmp_path / "a.pt")
    assert result.epochs == 4
    assert progress[-1].fraction == 1
    whole, _ = run()  # the schedule is by epochs, whatever their images
    assert progress[-1].values["learning_rate"] == pytest.approx(whole[-1].values["learning_rate"], abs=1e-12)


@pytest.mark.parametrize("damage", ["half", "text"])
def test_a_damaged_checkpoint_is_no_checkpoint(tmp_path, damage, caplog):
    _, whole = run()
    file = tmp_path / "a.pt"
    run(checkpoint=file, until=2)
    raw = file.read_bytes()
    file.write_bytes({"half": raw[: len(raw) // 2], "text": b"hello"}[damage])
    _, result = run(checkpoint=file)
    assert same(whole, result)
    assert "cannot be read" in caplog.text


def test_another_trainings_checkpoint_is_not_taken(tmp_path, caplog):
    run(checkpoint=tmp_path / "a.pt", until=2)
    _, other = run(seed=1, checkpoint=tmp_path / "a.pt")
    _, whole = run(seed=1)
    assert same(other, whole)
    assert "of another training" in caplog.text


def test_a_checkpoint_runs_no_code(tmp_path):
    """Loaded with weights_only=True: a file with any other object in it is damaged."""
    torch.save({"version": 2, "of": Fidelity()}, tmp_path / "a.pt")
    assert module.load_checkpoint(tmp_path / "a.pt", of={"seed": "0"}) is None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
def test_weights_that_a_full_disk_does_not_take_are_an_error_that_names_the_cause():
    with pytest.raises(StudyError, match="Cannot write the trained weights"):
        save_weights(build_model(TINY), Path("/dev/full") / "trial-0.safetensors")
