"""The fast form against the plain module, in float64, so that rounding hides nothing."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from starsearch.families import starnet_cpu
from starsearch.families.family import Architecture, presets
from starsearch.families.network import build_model
from starsearch.families.starnet import ACTIVATION_PLACEMENTS, BRANCH_OPS
from starsearch.families.starnet_cpu import fast_forward
from tests.strategies import architectures

TOLERANCE = 1e-7  # of what float64 computes: kinks of ReLU6 and running statistics of one image included


def build_pair(architecture, *, stem_stride=2, drop_path=0.0):
    torch.manual_seed(0)
    plain = build_model(architecture, num_classes=5, stem_stride=stem_stride, drop_path_rate=drop_path).double()
    for module in plain.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as if trained: else a scale or shift forgotten goes unseen
            torch.nn.init.normal_(module.weight, 1.0, 0.3)
            torch.nn.init.normal_(module.bias, 0.0, 0.3)
    return plain, copy.deepcopy(plain).to(memory_format=torch.channels_last)


def step(model, forward, images, targets):
    torch.manual_seed(1)  # drop path draws alike
    logits = forward(images)
    functional.cross_entropy(logits, targets).backward()
    return logits.detach()


def assert_close(got, expected, what):
    scale = max(1.0, expected.abs().max().item())
    assert (got - expected).abs().max().item() <= TOLERANCE * scale, what


def assert_same_step(architecture, *, resolution, batch=6, stem_stride=2, drop_path=0.0):
    plain, fast = build_pair(architecture, stem_stride=stem_stride, drop_path=drop_path)
    images, targets = torch.randn(batch, 3, resolution, resolution).double(), torch.randint(0, 5, (batch,))
    expected = step(plain, plain, images, targets)
    assert_close(step(fast, fast.quick_forward(), images, targets), expected, "logits")
    for (name, parameter), other in zip(plain.named_parameters(), fast.parameters(), strict=True):
        gradient = torch.zeros_like(other) if other.grad is None else other.grad
        assert_close(gradient, parameter.grad, name)
    for (name, buffer), other in zip(plain.named_buffers(), fast.buffers(), strict=True):
        assert_close(other, buffer, name)
    assert_close(fast_forward(fast.eval(), images), plain.eval()(images), "logits in eval mode")


@settings(max_examples=15, deadline=None)
@given(architecture=architectures(), resolution=st.sampled_from([32, 45, 64, 70]), stem_stride=st.sampled_from([1, 2]))
def test_a_step_of_any_architecture_is_that_of_the_plain_module(architecture, resolution, stem_stride):
    assert_same_step(architecture, resolution=resolution, stem_stride=stem_stride)


@pytest.mark.parametrize("activation", ACTIVATION_PLACEMENTS)
@pytest.mark.parametrize("op", BRANCH_OPS)
def test_every_operation_and_placement_steps_alike_with_other_kernels_a_stage(op, activation):
    architecture = Architecture.of(
        embed_dim=8, depths=(1, 1, 2, 1), mlp_ratio=2, kernel_size=(7, 5, 3, 1), ops=op, activation=activation
    )
    assert_same_step(architecture, resolution=64)


@pytest.mark.parametrize("resolution", range(17, 75, 8))
def test_odd_maps_step_alike(resolution):
    assert_same_step(Architecture.of(embed_dim=4, depths=(1, 1, 1, 1), mlp_ratio=2), resolution=resolution, batch=3)


def test_drop_path_drops_the_same_images():
    assert_same_step(Architecture.of(embed_dim=8, depths=(2, 2, 2, 2)), resolution=32, drop_path=0.5)


def test_the_published_network_steps_alike_in_several_pieces():
    assert_same_step(presets()["starnet_s050"], resolution=64, batch=64)


@pytest.mark.parametrize("kernel_size", [1, 3, 7, 11])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (1, 3), (5, 4), (8, 8), (9, 16), (16, 15)])
def test_depthwise_is_a_grouped_convolution(height, width, kernel_size):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, height, width, dtype=torch.float64, generator=generator)
    weight = torch.randn(3, 1, kernel_size, kernel_size, dtype=torch.float64, generator=generator)
    expected = functional.conv2d(images, weight, padding=kernel_size // 2, groups=3)
    got = starnet_cpu.depthwise(images.permute(1, 2, 3, 0).contiguous(), weight)
    assert torch.allclose(got.permute(3, 0, 1, 2), expected)


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_network_that_was_judged_before_anything_was_trained_can_be_trained(mode):
    starnet_cpu._spread.cache_clear()
    model = build_model(Architecture.of(embed_dim=8, depths=(1, 1, 1, 1)), num_classes=3)
    images = torch.randn(4, 3, 32, 32)
    with mode():
        fast_forward(model.eval(), images)
    fast_forward(model.train(), images).sum().backward()
    assert all(p.grad is not None for p in model.head.parameters())


def test_gradient_checkpointing_takes_the_modules_own_way():
    _, model = build_pair(Architecture.of(embed_dim=4, depths=(1, 1)))
    images = torch.randn(2, 3, 32, 32).double()
    expected = fast_forward(model.eval(), images)
    model.set_grad_checkpointing()
    assert_close(fast_forward(model, images), expected, "logits")
