"""A training that is stopped anywhere and goes on ends as one that was not, to the bit."""

import csv
import dataclasses
import resource

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from starsearch.api.training import run_training
from starsearch.api.training_job import plan_training
from starsearch.data import memory, open_data
from starsearch.errors import StudyError, TrainingDivergedError, TrainingStoppedError
from starsearch.families import starnet_cpu
from starsearch.families.family import Architecture
from starsearch.progress import follow
from starsearch.recipe import Fidelity, Recipe
from starsearch.training import Hardware, Keeping, train
from starsearch.training.optimisation import Optimisation
from tests.api.test_curves import read_curve
from tests.command_line import begun, starsearch
from tests.data.pictures import write_pictures
from tests.training.imagenet import write_imagenet
from tests.training.test_loop import SHORT, TINY

EVERYTHING = Recipe(
    batch_size=16, epochs=3, mixup=0.8, cutmix=1.0, random_erasing=0.25, drop_path=0.2, drop_rate=0.1, ema_decay=0.9
)
PHOTOS = dataclasses.replace(
    EVERYTHING, crop="random-resized", auto_augment="rand-m5-mstd0.5-inc1", train_interpolation="random"
)


def run(file, *, data, recipe, stop_after=None, workers=0, fidelity=SHORT, architecture=TINY, until=None, **keeping):
    """The end of a training; it is stopped after so many steps of this part of it, if it is."""
    asked = iter(range(1, 1_000_000))
    stops = None if stop_after is None else lambda: next(asked) >= stop_after
    steps = train(
        architecture,
        data=data,
        recipe=recipe,
        fidelity=fidelity,
        seed=0,
        until=until,
        checkpoint=Keeping(last=file, lasting=True, is_asked_to_stop=stops, **keeping),
        hardware=Hardware(workers=workers),
    )
    return follow(steps)


def weights(file):
    state = torch.load(file, weights_only=True)["optimisation"]
    return {(part, name): tensor for part in ("model", "ema") for name, tensor in (state[part] or {}).items()}


def assert_same(one, other):
    mine, theirs = weights(one), weights(other)
    assert mine.keys() == theirs.keys()
    assert [name for name in mine if not torch.equal(mine[name], theirs[name])] == []


def test_stopped_within_epochs_it_goes_on_from_the_very_step(tmp_path):
    data = open_data("digits")
    whole = run(tmp_path / "whole.pt", data=data, recipe=EVERYTHING)
    for steps in (3, 8, 6):  # of 8 an epoch: within the first, at the end of one, within the last
        with pytest.raises(TrainingStoppedError, match="of 3, after"):
            run(tmp_path / "cut.pt", data=data, recipe=EVERYTHING, stop_after=steps)
    kept = torch.load(tmp_path / "cut.pt", weights_only=True)
    assert (kept["epoch"], kept["step"]) == (2, 1)
    resumed = run(tmp_path / "cut.pt", data=data, recipe=EVERYTHING)
    assert_same(tmp_path / "whole.pt", tmp_path / "cut.pt")
    assert resumed.top1_percent == whole.top1_percent


def test_kept_after_the_last_step_of_an_epoch_a_new_process_validates_first_and_then_trains(tmp_path):
    data = open_data("digits")
    with pytest.raises(TrainingStoppedError, match="Stopped in epoch 1 of 3, after 8 of its 8 steps"):
        run(tmp_path / "cut.pt", data=data, recipe=EVERYTHING, stop_after=8)
    starnet_cpu._spread.cache_clear()  # as a new process would find it
    run(tmp_path / "cut.pt", data=data, recipe=EVERYTHING)
    run(tmp_path / "whole.pt", data=data, recipe=EVERYTHING)
    assert_same(tmp_path / "whole.pt", tmp_path / "cut.pt")


@pytest.mark.filterwarnings("ignore:[12] of 240 train images:UserWarning")  # the two broken ones, another test's matter
def test_with_worker_processes_neither_their_number_nor_a_stop_makes_a_difference(tmp_path):
    data = open_data(str(write_imagenet(tmp_path / "imagenet")))
    recipe = dataclasses.replace(PHOTOS, epochs=2, batch_size=48)
    fidelity = Fidelity(resolution=32, crop_pct=0.875)
    run(tmp_path / "whole.pt", data=data, recipe=recipe, fidelity=fidelity, workers=0)
    with pytest.raises(TrainingStoppedError):
        run(tmp_path / "cut.pt", data=data, recipe=recipe, fidelity=fidelity, workers=2, stop_after=3)
    run(tmp_path / "cut.pt", data=data, recipe=recipe, fidelity=fidelity, workers=1)
    assert_same(tmp_path / "whole.pt", tmp_path / "cut.pt")


def test_an_epoch_that_has_other_steps_than_when_it_was_kept_begins_again_and_no_epoch_is_lost(tmp_path):
    """A file that has become unreadable leaves the fingerprint, which knows names and sizes, as it is."""
    for split, count in (("train", 20), ("val", 4)):
        write_pictures(tmp_path / "pets" / split, {"cat": count, "dog": count})
    recipe, fidelity = Recipe(batch_size=8, epochs=3, crop="none"), Fidelity(resolution=16)
    options = {"recipe": recipe, "fidelity": fidelity}
    with pytest.raises(TrainingStoppedError, match="Stopped in epoch 2 of 3, after 2 of its 5 steps"):
        run(tmp_path / "a.pt", data=open_data(str(tmp_path / "pets")), stop_after=7, **options)
    before = torch.load(tmp_path / "a.pt", weights_only=True)
    file = tmp_path / "pets" / "train" / "cat" / "003.png"
    file.write_bytes(bytes(file.stat().st_size))
    forget_images()
    with (
        pytest.warns(UserWarning, match="1 of 40 train images"),
        pytest.warns(UserWarning, match="has 4 steps now; it had 5 .* Epoch 2 begins again"),
        pytest.raises(TrainingStoppedError, match="Stopped in epoch 2 of 3, after 1 of its 4 steps"),
    ):
        run(tmp_path / "a.pt", data=open_data(str(tmp_path / "pets")), stop_after=1, **options)
    after = torch.load(tmp_path / "a.pt", weights_only=True)
    assert (before["epoch"], before["step"], before["optimisation"]["optimizer"]["state"][0]["step"]) == (1, 2, 7)
    assert (after["epoch"], after["step"], after["optimisation"]["optimizer"]["state"][0]["step"]) == (1, 1, 8)


def forget_images():
    """As another process would: decoded images are kept by what the fingerprint says."""
    memory._kept.clear()


def test_a_loss_that_is_no_number_is_never_kept_though_the_weights_are_good(tmp_path, monkeypatch):
    """As float16's gradient scaler leaves them, which steps over a batch that overflowed."""
    data, recipe = open_data("digits"), dataclasses.replace(EVERYTHING, epochs=2)
    with pytest.raises(TrainingStoppedError):
        run(tmp_path / "a.pt", data=data, recipe=recipe, stop_after=2)
    step = Optimisation.step
    monkeypatch.setattr(Optimisation, "step", lambda *batch: step(*batch) * float("nan"))
    with pytest.raises(TrainingDivergedError, match=r"The last good checkpoint is kept: .*a\.pt"):
        run(tmp_path / "a.pt", data=data, recipe=recipe, every_s=0)
    monkeypatch.undo()
    kept = torch.load(tmp_path / "a.pt", weights_only=True)
    assert (kept["step"], torch.isfinite(kept["loss"]).item()) == (2, True)
    assert run(tmp_path / "a.pt", data=data, recipe=recipe).epochs == 2


def test_a_lasting_checkpoint_that_is_further_than_asked_is_left_as_it_is(tmp_path):
    data, recipe = open_data("digits"), dataclasses.replace(EVERYTHING, epochs=3)
    with pytest.raises(TrainingStoppedError, match="Stopped in epoch 3"):
        run(tmp_path / "a.pt", data=data, recipe=recipe, stop_after=18)
    before = (tmp_path / "a.pt").read_bytes()
    with pytest.raises(StudyError, match="it is in epoch 3, and this is for 1"):
        run(tmp_path / "a.pt", data=data, recipe=recipe, until=1)
    assert (tmp_path / "a.pt").read_bytes() == before


@pytest.mark.filterwarnings("ignore:[12] of 240 train images:UserWarning")
def test_broken_images_that_were_found_before_a_stop_are_still_known_after_it(tmp_path):
    folder = str(write_imagenet(tmp_path / "imagenet"))
    recipe = dataclasses.replace(PHOTOS, epochs=1, batch_size=24)
    first, second = open_data(folder), open_data(folder)
    with pytest.raises(TrainingStoppedError, match="after 9 of its 10 steps"):
        run(tmp_path / "a.pt", data=first, recipe=recipe, stop_after=9, fidelity=Fidelity(resolution=32))
    assert len(first.skipped) == 2, "or another seed is needed"
    run(tmp_path / "a.pt", data=second, recipe=recipe, fidelity=Fidelity(resolution=32))
    assert second.skipped == first.skipped


def test_a_disk_that_is_full_leaves_the_checkpoint_from_which_it_goes_on(tmp_path):
    data, recipe = open_data("digits"), dataclasses.replace(EVERYTHING, epochs=2)
    run(tmp_path / "whole.pt", data=data, recipe=recipe)
    with pytest.raises(TrainingStoppedError):
        run(tmp_path / "cut.pt", data=data, recipe=recipe, stop_after=3)
    before = (tmp_path / "cut.pt").read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, limits[1]))  # files of half its size, no more
    try:
        with pytest.raises(StudyError, match=r"Cannot write the checkpoint cut\.pt .*run the same command"):
            run(tmp_path / "cut.pt", data=data, recipe=recipe)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (tmp_path / "cut.pt").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.pt", "whole.pt"]
    run(tmp_path / "cut.pt", data=data, recipe=recipe)
    assert_same(tmp_path / "whole.pt", tmp_path / "cut.pt")


ARCHITECTURE = "starnet:embed_dim=8,depths=1-1-1,mlp_ratio=2,kernel_size=3"
RECIPE_TEXT = (
    "{epochs: %d, batch_size: 32, mixup: 0.8, cutmix: 1.0, random_erasing: 0.25, drop_path: 0.2, ema_decay: 0.99, "
    "hflip: 0}"
)


def plan(tmp_path, name, *, epochs):
    recipe = tmp_path / "short.yaml"
    recipe.write_text(RECIPE_TEXT % epochs)
    return plan_training(ARCHITECTURE, data="digits", recipe=str(recipe), resolution=16, out=tmp_path / name)


KILLED = (
    *("train", ARCHITECTURE, "--data", "digits", "--resolution", "16"),
    *("--recipe", "short.yaml", "--out", "killed", "--keep-every", "0.2"),
)


def kill_after(process, folder, wait):
    """Kill it some seconds after it has got further than it was when it started; the last epoch it told of."""
    log, last = folder / "log.csv", folder / "last.pt"
    began = last.stat().st_mtime_ns if last.exists() else 0
    while process.exitcode is None and not (last.exists() and last.stat().st_mtime_ns > began):
        process.join(0.02)  # until there is something to lose
    process.join(wait)
    process.kill()
    process.join()
    return int(log.read_text().splitlines()[-1].split(",")[0]) if log.exists() else 0


def kill_and_go_on(tmp_path, *, kills, epochs, longest_s):
    whole = plan(tmp_path, "whole", epochs=epochs)
    run_training(whole)
    rng, survived = np.random.default_rng(0), 0
    while survived < kills:
        with begun(*KILLED, cwd=tmp_path) as (process, _, _):
            told = kill_after(process, tmp_path / "killed", rng.uniform(0, longest_s))
            if process.exitcode == 0:
                break
        kept = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
        assert kept["epoch"] >= told, "an epoch that was told of is kept"
        survived += 1
    done = starsearch(*KILLED, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_same(tmp_path / "whole" / "last.pt", tmp_path / "killed" / "last.pt")
    logs = [
        [line.split(",")[:5] for line in (tmp_path / name / "log.csv").read_text().splitlines()]
        for name in ("whole", "killed")
    ]
    assert logs[0] == logs[1]
    curve = read_curve(tmp_path / "killed" / "tensorboard")
    rows = list(csv.DictReader((tmp_path / "killed" / "log.csv").read_text().splitlines()))
    assert curve["top1_percent"] == [(int(row["epoch"]), np.float32(row["top1"])) for row in rows]
    assert not [*(tmp_path / "killed").glob(".partial*")]
    best = [load_file(tmp_path / name / "best.safetensors") for name in ("whole", "killed")]
    assert all(torch.equal(best[0][key], best[1][key]) for key in best[0])
    return survived


def test_killed_with_no_warning_it_goes_on_to_the_same_end(tmp_path):
    assert kill_and_go_on(tmp_path, kills=1, epochs=4, longest_s=0.3) == 1


@pytest.mark.slow
def test_ten_kills_at_random_moments_lose_no_epoch_and_change_no_bit(tmp_path):
    assert kill_and_go_on(tmp_path, kills=10, epochs=60, longest_s=2.5) == 10


def test_a_training_of_something_else_is_refused_with_what_differs(tmp_path):
    data, recipe = open_data("digits"), dataclasses.replace(EVERYTHING, epochs=1)
    run(tmp_path / "a.pt", data=data, recipe=recipe)
    before = (tmp_path / "a.pt").read_bytes()
    wider = Architecture.of(embed_dim=12, depths=(1, 1, 1), mlp_ratio=2, kernel_size=3)
    with pytest.raises(StudyError, match=r"architecture starnet:embed_dim=8.* there, starnet:embed_dim=12.* here"):
        run(tmp_path / "a.pt", data=data, recipe=recipe, architecture=wider)
    with pytest.raises(StudyError, match=r"recipe\.lr 0\.002 there, 0\.001 here"):
        run(tmp_path / "a.pt", data=data, recipe=dataclasses.replace(recipe, lr=1e-3))
    (tmp_path / "a.pt").write_bytes(before[: len(before) // 2])
    with pytest.raises(StudyError, match="cannot be read"):
        run(tmp_path / "a.pt", data=data, recipe=recipe)
