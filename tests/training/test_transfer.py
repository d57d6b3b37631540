"""Weights of one network as the beginning of another, against slicing by hand and what must not change the logits."""

import pytest
import timm
import torch

from starsearch.errors import EvaluationError
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.training.transfer import compare, summarize, transfer

SMALL = "starnet:embed_dim=8,depths=1-1-2-1,kernel_size=3,mlp_ratio=2"
DEMO = "demonet:width=16,depths=2,layer_scale=1"
IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def make(text, *, classes=10):
    """A network whose batch norms have seen something."""
    torch.manual_seed(0)
    model = build_model(parse_architecture(text), num_classes=classes)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if ".bn." in name and tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    return model.eval()


def begin(text, model, *, classes=10):
    """The network of `text`, begun with the weights of `model`."""
    architecture = parse_architecture(text)
    new = build_model(architecture, num_classes=classes, initialization="identity")
    new.load_state_dict(transfer(architecture, model.state_dict(), new.state_dict(), num_classes=classes))
    return new.eval()


def test_a_narrower_network_is_cut_out_of_a_wider_one():
    """Against slices of timm's StarNet-S4, tensor by tensor: the first channels and blocks, the kernel's centre."""
    text = "starnet:embed_dim=20,depths=1-2-4-1,mlp_ratio=3,kernel_size=5,stem_width=24"
    torch.manual_seed(0)
    wide = timm.create_model("starnet_s4", num_classes=10)
    new = begin(text, wide)
    theirs = wide.state_dict()
    for name, tensor in new.state_dict().items():
        expected = theirs[name]
        if "dwconv" in name and expected.ndim == 4:
            expected = expected[:, :, 1:-1, 1:-1]
        assert torch.equal(tensor, expected[tuple(slice(size) for size in tensor.shape)]), name
    starts = summarize(compare(parse_architecture(text), theirs, num_classes=10))
    assert [(one.layers, one.how) for one in starts] == [
        ("stem.0", "sliced"),
        *((f"stages.{stage}.0–{depth}", "sliced") for stage, depth in enumerate((1, 2, 4, 1))),
        ("norm", "sliced"),
        ("head", "sliced"),
    ]


@pytest.mark.parametrize(
    ("there", "here"),
    [
        (SMALL, SMALL),
        (SMALL, SMALL.replace("1-1-2-1", "2-3-2-4")),
        (SMALL, SMALL.replace("embed_dim=8", "embed_dim=20").replace("size=3", "size=7") + ",stem_width=40"),
        (SMALL, SMALL.replace("ratio=2", "ratio=5")),
        (DEMO, DEMO.replace("depths=2", "depths=5")),
        (DEMO, DEMO.replace("width=16", "width=32")),
    ],
)
def test_a_network_that_holds_the_trained_one_begins_with_its_logits(there, here):
    """More blocks, channels or places in a kernel change nothing before the first step."""
    model = make(there)
    expected, found = model(IMAGES), begin(here, model)(IMAGES)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 if there != here else 0)


def test_copies_of_a_channel_learn_different_things():
    """With equal shares of what is behind them they would have equal gradients, and stay one channel."""
    new = begin(SMALL.replace("ratio=2", "ratio=4"), make(SMALL)).train()
    new(IMAGES).square().sum().backward()
    gradient = new.stages[0][1].f1.conv.weight.grad
    directions = torch.nn.functional.normalize(gradient.flatten(1))
    assert (directions[:16] * directions[16:]).sum(1).max() < 0.9999


def test_what_is_new_is_said_and_the_rest_is_kept():
    """A stage less, other classes: what stands behind the last stage is new."""
    model = make(SMALL, classes=7)
    by_how = {one.layers: one.how for one in compare(parse_architecture(SMALL), model.state_dict(), num_classes=10)}
    assert by_how.pop("head") == "new"
    assert set(by_how.values()) == {"kept"}
    shorter = SMALL.replace("1-1-2-1", "1-3-2")
    starts = summarize(compare(parse_architecture(shorter), model.state_dict(), num_classes=7))
    assert {one.layers for one in starts if one.how == "new"} == {"stages.1.2–3", "norm", "head"}


def test_weights_of_no_network_of_the_family_are_refused():
    state = make(SMALL).state_dict()
    target = parse_architecture(SMALL)
    pruned = {**state, "stages.2.1.f1.conv.weight": state["stages.2.1.f1.conv.weight"][:50]}
    broken = {**state, "norm.weight": state["norm.weight"] * torch.nan}
    lacking = {name: tensor for name, tensor in state.items() if name != "stages.1.0.bn.bias"}
    for bad, words in (
        (
            timm.create_model("mobilenetv3_small_050").state_dict(),
            "of no StarNet: 'conv_stem.weight' is no part of one",
        ),
        (make(DEMO).state_dict(), "of no StarNet: 'stem.conv.weight'"),
        (pruned, "pruned .* stages.2.1.f1"),
        (broken, "norm.weight holds numbers that are not finite"),
        (lacking, r"stages\.1\.0\.bn\.bias is missing"),
    ):
        with pytest.raises(EvaluationError, match=words):
            compare(target, bad, num_classes=10)
