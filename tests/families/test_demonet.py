"""DemoNet: counts of the official code, and logits of an implementation from the paper's description."""

import pytest
import torch
from torch.nn import functional

from starsearch.errors import ArchitectureError
from starsearch.families.family import Architecture, count_macs, count_params, lower, presets
from starsearch.families.layers import pad_channels
from starsearch.families.network import build_model
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.testing import FamilyContract

TEXTS = (
    "demonet:width=24,depths=2",
    "demonet:width=16,depths=1,ops=sum,activation=none,layer_scale=0.5",
    "demonet:width=20,depths=2,activation=post,act_type=relu,layer_scale=1.0",
)


class TestDemoNet(FamilyContract):
    texts = TEXTS


# Learned parameters of the official code at 1000 classes.
@pytest.mark.parametrize(("width", "params"), [(96, 1_235_464), (192, 4_460_584), (288, 9_676_360)])
def test_parameters_are_those_of_the_official_code(width, params):
    for op in ("star", "sum"):
        architecture = presets()[f"demonet_d12_w{width}_{op}"]
        assert count_params(architecture) == params
        assert sum(one.numel() for one in build_model(architecture).parameters()) == params


def test_multiply_adds_follow_from_the_shapes():
    width, positions = 192, 14 * 14
    block = positions * width * (49 + 6 * width + 3 * width)
    assert count_macs(parse_architecture("demonet_d12_w192_star")) == (
        positions * width * 3 * 256 + 12 * block + width * 1000
    )


def reference(state, images, *, op, act, blocks):
    """From figure 1 and algorithm 1: channels last, the two branches as one linear layer split in two."""
    width = state["stem.conv.weight"].shape[0]
    patches = functional.unfold(images, 16, stride=16).transpose(1, 2)
    side = images.shape[-1] // 16
    x = patches @ state["stem.conv.weight"].reshape(width, -1).T + state["stem.conv.bias"]
    x = x.reshape(-1, side, side, width)
    for number in range(blocks):
        prefix = f"blocks.{number}."
        block = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
        y = (y * block["norm.weight"] + block["norm.bias"]).permute(0, 3, 1, 2)
        y = functional.conv2d(y, block["dwconv.conv.weight"], block["dwconv.conv.bias"], padding=3, groups=width)
        both = torch.cat((block["f1.conv.weight"], block["f2.conv.weight"])).flatten(1)
        bias = torch.cat((block["f1.conv.bias"], block["f2.conv.bias"]))
        one, two = (y.permute(0, 2, 3, 1) @ both.T + bias).chunk(2, -1)
        one = act(one)
        y = one * two if op == "star" else one + two
        y = y @ block["g.conv.weight"].flatten(1).T + block["g.conv.bias"]
        x = x + block["scale.gamma"] * y
    x = functional.layer_norm(x.mean((1, 2)), (width,), state["norm.weight"], state["norm.bias"])
    return x @ state["head.weight"].T + state["head.bias"]


@pytest.mark.parametrize("op", ["star", "sum"])
@pytest.mark.parametrize(("activation", "act"), [("one", functional.gelu), ("none", lambda x: x)])
def test_logits_are_those_of_the_papers_description(op, activation, act):
    torch.manual_seed(0)
    text = f"demonet:width=24,depths=3,ops={op},activation={activation},layer_scale=1.0"
    model = build_model(parse_architecture(text), num_classes=7).double().eval()
    for parameter in model.parameters():  # also norms, biases and scales say something
        torch.nn.init.normal_(parameter, std=0.2)
    images = torch.randn(2, 3, 48, 48, dtype=torch.double)
    expected = reference(model.state_dict(), images, op=op, act=act, blocks=3)
    torch.testing.assert_close(model(images), expected)


def test_it_starts_as_published_or_as_the_identity():
    torch.manual_seed(0)
    architecture = parse_architecture("demonet_d12_w96_star")
    official = build_model(architecture)
    assert official.blocks[0].scale.gamma.unique().tolist() == pytest.approx([1e-6])
    assert official.blocks[0].f1.conv.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert not official.blocks[0].g.conv.bias.any()
    block = build_model(architecture, initialization="identity").blocks[0]
    x = torch.randn(2, 96, 4, 4, requires_grad=True)
    assert torch.equal(block(x), x)
    block(x).square().sum().backward()
    assert block.g.conv.weight.grad.abs().max() > 0, "blocks learn from the first step on"


def test_channels_are_not_padded_under_a_layer_norm():
    layers = lower(parse_architecture(TEXTS[2]), resolution=32)
    assert pad_channels(layers, multiple=8) == layers


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"depths": (2, 2)}, "one stage"),
        ({"mlp_ratio": 4}, "DemoNet has: width"),
        ({"layer_scale": 0}, "layer_scale"),
        ({"width": 0}, "width"),
    ],
)
def test_what_is_no_demonet_is_refused(fields, word):
    with pytest.raises(ArchitectureError, match=word):
        Architecture.of("demonet", **fields)


def test_the_smallest_text_reads_back():
    assert format_architecture(parse_architecture("demonet:")) == "demonet:width=192,depths=12"
