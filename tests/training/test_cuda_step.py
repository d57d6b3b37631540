"""The form of a step that a GPU captures, against the plain one: uncaptured on a CPU, and captured where a GPU is."""

import dataclasses
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace

import pytest
import torch
from timm.utils import random_seed

from starsearch.data import open_data
from starsearch.errors import TrainingStoppedError
from starsearch.families.network import build_model
from starsearch.progress import follow
from starsearch.recipe import Recipe
from starsearch.training import Hardware, Keeping, loop, train
from starsearch.training.cuda_step import CapturedStep
from starsearch.training.hardware import judge_compiling
from starsearch.training.optimisation import Optimisation
from tests.training.test_loop import SHORT, TINY
from tests.training.test_resuming import assert_same

EVERYTHING = Recipe(batch_size=16, epochs=2, mixup=0.8, cutmix=1.0, random_erasing=0.25, drop_path=0.2, drop_rate=0.1,
                    ema_decay=0.9, clip_grad=0.5)  # fmt: skip
ON = "cuda" if torch.cuda.is_available() else "cpu"
on_gpu = pytest.mark.skipif(ON == "cpu", reason="there is no GPU")


def trained(hardware, recipe, *, steps=7, dtype=torch.float64, compile_at=None):
    """Losses and optimisation after some steps, each drawn from a seed of its own.

    In float64, since Adam makes whole steps of what rounding leaves of gradients that are zero.
    """
    torch.manual_seed(0)
    model = build_model(TINY, num_classes=5, drop_path_rate=recipe.drop_path, drop_rate=recipe.drop_rate)
    model = model.to(hardware.device, dtype).to(memory_format=torch.channels_last)
    optimisation = Optimisation(model, recipe, steps_per_epoch=4, hardware=hardware)
    data = torch.Generator().manual_seed(1)
    losses = []
    for step in range(steps):
        images, targets = torch.randn(16, 3, 32, 32, generator=data), torch.randint(0, 5, (16,), generator=data)
        random_seed(step)
        if step == compile_at:
            optimisation.compile()
        loss = optimisation.step(images.to(hardware.device, dtype), targets.to(hardware.device))
        losses.append(loss.item())
    return losses, optimisation


def assert_alike(one, other, tolerance=1e-6):
    (losses, mine), (expected, theirs) = one, other
    assert losses == pytest.approx(expected, rel=tolerance)
    assert mine.learning_rate == theirs.learning_rate
    for ours, reference in ((mine.model, theirs.model), (mine.ema.module, theirs.ema.module)):
        for name, tensor in reference.state_dict().items():
            assert torch.allclose(ours.state_dict()[name], tensor, rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_the_step_with_rates_in_tensors_is_the_plain_one(optimizer):
    recipe = dataclasses.replace(EVERYTHING, optimizer=optimizer, lr=1e-3, warmup_epochs=0.5)
    assert_alike(trained(Hardware(capture=True), recipe), trained(Hardware(), recipe))


@on_gpu
@pytest.mark.parametrize("optimizer", ["adamw", "momentum"])
def test_a_captured_step_is_the_plain_one(optimizer, recwarn):
    recipe = dataclasses.replace(EVERYTHING, optimizer=optimizer, lr=1e-3)
    captured = trained(Hardware(device=ON), recipe)
    assert captured[1]._captured._captured, [str(warning.message) for warning in recwarn]
    assert_alike(captured, trained(Hardware(device=ON, capture=False), recipe))


@on_gpu
def test_a_captured_step_in_bfloat16_has_the_losses_of_the_plain_one():
    half = Hardware(device=ON, precision="bfloat16")
    losses = [
        trained(hardware, EVERYTHING, dtype=torch.float32)[0]
        for hardware in (half, dataclasses.replace(half, capture=False))
    ]
    assert losses[0] == pytest.approx(losses[1], rel=2e-2)


@on_gpu
def test_what_cannot_be_captured_is_done_plainly_and_said_once(monkeypatch):
    update = Optimisation._update

    def looking(self, images, targets):
        loss = update(self, images, targets)
        assert loss.item() > 0  # waits for the GPU
        return loss

    monkeypatch.setattr(Optimisation, "_update", looking)
    with pytest.warns(UserWarning, match="cannot be captured as a CUDA graph") as said:
        losses, _ = trained(Hardware(device=ON), EVERYTHING, steps=12)
    assert len(said) == 1
    assert len(losses) == 12


@pytest.mark.parametrize("is_captured", [True, False])
def test_a_step_is_captured_once_and_replayed_or_launched_plainly_and_that_said(monkeypatch, is_captured):
    """With stand-ins for CUDA, whose graphs hold nothing."""
    done = []

    @contextmanager
    def capture(*_args, **_options):
        yield done.append("captured")
        if not is_captured:
            raise RuntimeError("operation not permitted when stream is capturing")

    stream = SimpleNamespace(wait_stream=lambda _: None)
    generator = SimpleNamespace(clone_state=dict, graphsafe_set_state=lambda _: done.append("restored"))
    for name, stand_in in {
        "graph": capture,
        "CUDAGraph": lambda: SimpleNamespace(replay=lambda: done.append("replayed")),
        "stream": lambda _: nullcontext(),
        "current_stream": lambda _: stream,
        "synchronize": lambda _: None,
        "default_generators": [generator],
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    step = CapturedStep(optimizer, model, None)
    step._stream = stream

    def update(images, _targets):
        done.append(f"ran at {optimizer.param_groups[0]['lr'].item()}")  # a tensor, in the graph and outside
        return images.sum()

    with nullcontext() if is_captured else pytest.warns(UserWarning, match="not permitted when stream") as said:
        for _ in range(6):
            step(update, torch.ones(2, 2), torch.zeros(2))
            assert optimizer.param_groups[0]["lr"] == 0.5
            assert isinstance(optimizer.param_groups[0]["lr"], float)
    ran = "ran at 0.5"
    if is_captured:
        assert done == [ran] * 3 + ["captured", ran] + ["replayed"] * 3
        step.end()  # what follows is captured anew
        step(update, torch.ones(2, 2), torch.zeros(2))
        assert done[-1] == ran
    else:
        assert done == [ran] * 3 + ["captured", ran, "restored"] + [ran] * 3
        assert len(said) == 1


def test_a_training_in_that_form_resumes_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)
    data = open_data("digits")

    def run(file, stop_after=None):
        asked = iter(range(1, 1_000))
        stops = None if stop_after is None else lambda: next(asked) >= stop_after
        keeping = Keeping(last=file, lasting=True, is_asked_to_stop=stops)
        hardware = Hardware(device=ON, capture=True, workers=0)
        options = {"data": data, "recipe": EVERYTHING, "fidelity": SHORT, "seed": 0, "checkpoint": keeping}
        return follow(train(TINY, hardware=hardware, **options))

    whole = run(tmp_path / "whole.pt")
    for steps in (5, 6):  # of 8 an epoch
        with pytest.raises(TrainingStoppedError):
            run(tmp_path / "cut.pt", stop_after=steps)
    resumed = run(tmp_path / "cut.pt")
    assert_same(tmp_path / "whole.pt", tmp_path / "cut.pt")
    assert resumed.top1_percent == whole.top1_percent


def test_compiling_has_to_save_more_of_the_rest_than_it_takes():
    pays, why = judge_compiling(3600)
    assert pays
    assert "takes about 48 s, and would save about 900 of the 3,600 s" in why
    pays, why = judge_compiling(48 / 0.25)  # as much as it takes
    assert not pays
    assert "is not compiled" in why


@pytest.fixture
def calls(monkeypatch):
    """The sizes of the batches given to a compiled forward pass, by a compiler that compiles nothing."""
    sizes = []

    def compiled(model):
        def forward(images):
            sizes.append(len(images))
            return model(images)

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    return sizes


@pytest.mark.parametrize("capture", [False, True])
def test_a_training_whose_step_is_compiled_half_way_is_the_plain_one(capture, calls):
    assert_alike(trained(Hardware(capture=capture), EVERYTHING, compile_at=3), trained(Hardware(), EVERYTHING))
    assert calls == [16] * 4


def test_a_training_goes_on_where_nothing_can_be_compiled(monkeypatch):
    def compiled(_model):
        def forward(_images):
            raise RuntimeError("there is no compiler")

        return forward

    monkeypatch.setattr(torch, "compile", compiled)
    with pytest.warns(UserWarning, match=r"cannot be compiled \(there is no compiler\)") as said:
        found = trained(Hardware(), EVERYTHING, compile_at=3)
    assert len(said) == 1
    assert_alike(found, trained(Hardware(), EVERYTHING))


def test_whether_to_compile_is_decided_once_the_speed_is_known_and_said(monkeypatch, calls):
    monkeypatch.setattr(loop, "_JUDGED_S", 0.0)
    recipe = dataclasses.replace(EVERYTHING, epochs=3)  # of 8 steps; the speed is that of the second

    def run(is_asked):
        options = {"data": open_data("digits"), "recipe": recipe, "fidelity": SHORT, "seed": 0}
        follow(train(TINY, hardware=Hardware(compile=is_asked, workers=0), **options))

    run(None)  # on a CPU only where somebody asks for it
    with pytest.warns(UserWarning, match="is not compiled: that takes about 48 s") as said:
        run(True)
    assert (len(said), calls) == (1, [])
    monkeypatch.setattr("starsearch.training.hardware.COMPILING_S", 0.0)
    with pytest.warns(UserWarning, match="is compiled: that takes about 0 s") as said:
        run(True)
    assert (len(said), calls) == (1, [16] * 8)
