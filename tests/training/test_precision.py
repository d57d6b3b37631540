"""Half precision, micro-batches and what a machine cannot do."""

import copy
import dataclasses

import pytest
import torch
from timm.utils import random_seed
from torch.nn import functional

from starsearch.errors import EvaluationError, TrainingDivergedError
from starsearch.families.family import Architecture
from starsearch.families.network import build_model, combine
from starsearch.families.starnet_module import Block
from starsearch.recipe import Recipe
from starsearch.training import Hardware, Keeping
from starsearch.training.hardware import find_device
from starsearch.training.optimisation import Optimisation
from tests.training.test_loop import RECIPE, SHORT, TINY
from tests.training.test_loop import run as run_with_progress

FREE = Architecture.of(embed_dim=8, depths=(1, 1), mlp_ratio=2, kernel_size=3, activation="none")


def run(**options):
    return run_with_progress(**options)[1]


def large_branches():
    """A star without activations whose branches are beyond 256, as trained ones become."""
    torch.manual_seed(0)
    model = build_model(FREE, num_classes=3)
    with torch.no_grad():
        for block in (module for module in model.modules() if isinstance(module, Block)):
            block.f1.conv.weight.mul_(600)
            block.f2.conv.weight.mul_(600)
    return model, torch.randn(8, 3, 32, 32)


def test_a_star_without_activations_overflows_float16_unless_it_is_guarded(monkeypatch):
    model, images = large_branches()
    in_float32 = copy.deepcopy(model).train()(images)
    half = {"device_type": "cpu", "dtype": torch.float16}
    with torch.autocast(**half):
        guarded = copy.deepcopy(model).train()(images)
    assert torch.isfinite(guarded).all()
    assert functional.cosine_similarity(guarded.float().flatten(), in_float32.flatten(), dim=0) > 0.99
    monkeypatch.setattr(Block, "_combine_and_project", lambda block, x1, x2: block.g(combine(block, x1, x2)))
    with torch.autocast(**half):
        unguarded = copy.deepcopy(model).train()(images)
    assert torch.isnan(unguarded).any()


def test_bfloat16_needs_no_guard_and_float32_is_left_alone(monkeypatch):
    model, images = large_branches()
    monkeypatch.setattr(torch.Tensor, "float", lambda tensor: pytest.fail("made float32"))
    model.train()(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.isfinite(model(images)).all()


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_network_learns_in_half_precision_too(precision):
    recipe = dataclasses.replace(RECIPE, epochs=3, lr=5e-3, clip_grad=1.0)
    fidelity = dataclasses.replace(SHORT, resolution=8, stem_stride=1, samples=384)
    result = run(recipe=recipe, fidelity=fidelity, hardware=Hardware(precision=precision))
    assert result.top1_percent > 20
    assert all(parameter.dtype == torch.float32 for parameter in result.model.parameters())


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_add_up_to_the_gradient_of_their_batch(accumulate):
    """With batch norms in eval mode, since theirs is the one thing that a smaller batch changes; to rounding."""
    torch.manual_seed(0)
    models = [build_model(TINY, num_classes=5).double() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    images, targets = torch.randn(16, 3, 32, 32).double(), torch.randint(0, 5, (16,))
    recipe = Recipe(batch_size=16, optimizer="momentum", momentum=0, lr=1.0, weight_decay=0, schedule="none",
                    warmup_epochs=0, clip_grad=1.0, mixup=0.8)  # fmt: skip
    losses = []
    for model, parts in zip(models, (1, accumulate), strict=True):
        model.eval()
        optimisation = Optimisation(model, recipe, steps_per_epoch=1, hardware=Hardware(accumulate=parts))
        random_seed(1)
        losses.append(optimisation.step(images.clone(), targets).item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-12)
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-10)


def test_a_batch_that_ranks_and_micro_batches_do_not_divide_is_refused():
    with pytest.raises(EvaluationError, match="shared by 1 ranks × 5 micro-batches, which do not divide it; take 30"):
        run(hardware=Hardware(accumulate=5))
    recipe = dataclasses.replace(RECIPE, mixup=0.8, batch_size=6)
    with pytest.raises(EvaluationError, match=r"even; got 3 a rank \(of 6 in all\)"):
        Optimisation(build_model(TINY), recipe, steps_per_epoch=1, hardware=Hardware(world_size=2))


def test_batch_norms_are_not_synchronised_on_a_cpu():
    with pytest.raises(EvaluationError, match="on GPUs only"):
        run(hardware=Hardware(sync_batch_norm=True))


def test_out_of_memory_says_by_what_it_would_fit(monkeypatch):
    def full(self, images, targets):
        raise torch.OutOfMemoryError("CUDA out of memory.")  # there is no GPU to fill

    monkeypatch.setattr(Optimisation, "step", full)
    with pytest.raises(EvaluationError, match=r"with 16 images at a time\. --accumulate 4 .* batch of 32 by 8 images"):
        run(hardware=Hardware(accumulate=2))
    gb = 10**9  # of which this process has 30, and nothing is free
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (0, 80 * gb))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 30 * gb)
    assert "at a time. Other processes hold 50.0 of its 80.0 GB. --accumulate 2" in str(Hardware().out_of_memory(32))


def test_gpus_that_are_named_and_not_found_are_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for nothing in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        assert find_device() == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-5c1e")
    with pytest.warns(UserWarning, match="CUDA_VISIBLE_DEVICES is MIG-5c1e, and torch finds no such GPU: the CPU is"):
        assert find_device() == "cpu"


def test_a_loss_that_is_no_number_leaves_the_last_good_checkpoint(tmp_path):
    file = tmp_path / "last.pt"
    wild = dataclasses.replace(RECIPE, lr=100, warmup_epochs=0, optimizer="sgd", weight_decay=0, epochs=50)
    with pytest.raises(TrainingDivergedError, match=r"in epoch \d+\..*last good checkpoint is kept: .*last\.pt"):
        run(recipe=wild, checkpoint=Keeping(last=file, every_s=0.0, lasting=True))
    kept = torch.load(file, weights_only=True)
    assert all(torch.isfinite(tensor).all() for tensor in kept["optimisation"]["model"].values())


def test_weights_of_other_classes_get_a_new_head():
    begun = build_model(TINY, num_classes=3, initialization="timm")
    result = run(recipe=dataclasses.replace(RECIPE, lr=1e-9, warmup_lr=0.0, min_lr=0.0), initial=begun.state_dict())
    theirs = dict(begun.named_parameters())
    for name, one in result.model.named_parameters():
        assert name.startswith("head.") or torch.allclose(one, theirs[name], atol=1e-6)
    assert result.model.head.weight.shape[0] == 10
