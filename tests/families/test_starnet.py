from math import prod

import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from starsearch.errors import ArchitectureError
from starsearch.export.weights import weight_shapes
from starsearch.families.family import Architecture, count_macs, presets
from starsearch.families.layers import layer_macs, layer_params
from starsearch.families.network import build_model
from starsearch.families.starnet import StarNetArchitecture
from starsearch.families.text import parse_architecture
from tests.strategies import architectures

SMALL = "starnet:embed_dim=8,depths=1-1-2-1"


def _images(num_images=2, channels=3, resolution=64):
    return torch.randn(num_images, channels, resolution, resolution, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", StarNetArchitecture.published)
def test_anchors_load_timms_state_dict_and_give_its_logits_bit_by_bit(name):
    torch.manual_seed(0)
    theirs = timm.create_model(name)
    ours = build_model(presets()[name])
    ours.load_state_dict(theirs.state_dict(), strict=True)
    images = _images()
    for training in (True, False):  # in training first: it moves the running statistics of both
        theirs.train(training)
        ours.train(training)
        assert torch.equal(ours(images), theirs(images))
    assert list(ours.state_dict()) == list(theirs.state_dict())


def test_training_with_drop_path_and_dropout_is_timms_bit_by_bit():
    options = {"num_classes": 10, "drop_rate": 0.2, "drop_path_rate": 0.5}
    theirs = timm.create_model("starnet_s050", **options)
    ours = build_model(presets()["starnet_s050"], **options)
    ours.load_state_dict(theirs.state_dict())
    logits = []
    for model in (theirs, ours):
        torch.manual_seed(1)
        logits.append(model.train()(_images()))
    assert torch.equal(*logits)


def test_drop_path_rises_linearly_over_all_blocks():
    model = build_model(parse_architecture("starnet:embed_dim=8,depths=2-0-2-1"), drop_path_rate=0.4)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in model.stages for block in stage[1:]]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])


@given(architectures(), st.integers(8, 40), st.sampled_from((1, 2)), st.integers(1, 4), st.sampled_from((0, 1, 10)))
@settings(max_examples=40, deadline=None)
def test_module_and_lowering_are_the_same_network(architecture, resolution, stem_stride, in_chans, num_classes):
    options = {"stem_stride": stem_stride, "in_chans": in_chans, "num_classes": num_classes}
    model = build_model(architecture, **options).eval()
    layers = {layer.name: layer for layer in model.lower(resolution=resolution)}
    shapes, macs = _trace(model, _images(1, in_chans, resolution))

    learned = {key: shape for layer in layers.values() for key, shape in weight_shapes(layer).items()}
    counters = {key for key in model.state_dict() if key.endswith("num_batches_tracked")}
    assert {k: tuple(v.shape) for k, v in model.state_dict().items() if k not in counters} == learned
    assert sum(map(layer_params, layers.values())) == sum(parameter.numel() for parameter in model.parameters())
    assert sum(map(layer_macs, layers.values())) == macs
    assert shapes
    for name, shape in shapes.items():
        out_shape = layers[name].out_shape
        assert shape == (out_shape if len(shape) == 3 else out_shape[:1])


def _trace(model, images):
    """Output shapes by layer (convolutions with their norm, norm, head) and the MACs, as forward hooks see them."""
    shapes, macs = {}, []

    def watch(name, module):
        def hook(module, inputs, output):
            shapes[name] = tuple(output.shape[1:])

        module.register_forward_hook(hook)

    def count(module, inputs, output):
        macs.append(output[0].numel() * prod(module.weight.shape[1:]))

    for name, module in model.named_modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
        if name.endswith((".f1", ".f2", ".g", ".dwconv", ".dwconv2", "stem.0")) or name == "norm":
            watch(name, module)
        if name == "head" and isinstance(module, nn.Linear):
            watch(name, module)
    for stage in range(len(model.stages)):
        watch(f"stages.{stage}.0", model.stages[stage][0])
    with torch.inference_mode():
        model(images)
    return shapes, sum(macs)


@pytest.mark.parametrize("op", ["star", "sum"])
@pytest.mark.parametrize("activation", ["none", "one", "both", "post"])
def test_blocks_compute_the_papers_formula(op, activation):
    architecture = Architecture.of(embed_dim=4, depths=(1,), ops=op, activation=activation, act_type="relu")
    block = build_model(architecture).eval().stages[0][1]
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        mixed = block.dwconv(x)
        x1, x2 = block.f1(mixed), block.f2(mixed)
        x1 = x1.relu() if activation in ("one", "both") else x1
        x2 = x2.relu() if activation == "both" else x2
        met = x1 * x2 if op == "star" else x1 + x2
        met = met.relu() if activation == "post" else met
        expected = x + block.dwconv2(block.g(met))
        assert torch.equal(block(x), expected)


def test_the_official_initialisation_is_pytorchs_default_but_for_the_head():
    torch.manual_seed(0)
    model = build_model(presets()["starnet_s050"])
    for kernel in (module.weight.detach() for module in model.modules() if isinstance(module, nn.Conv2d)):
        bound = prod(kernel.shape[1:]) ** -0.5  # uniform within ±1/√fan_in
        assert float(kernel.abs().max()) <= bound
        assert float(kernel.std()) == pytest.approx(bound / 3**0.5, rel=5 / (2 * kernel.numel()) ** 0.5)
    assert float(model.head.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not model.head.bias.any()


def test_timms_initialisation_draws_timms_own_weights():
    torch.manual_seed(0)
    theirs = timm.create_model("starnet_s050").state_dict()
    torch.manual_seed(0)
    ours = build_model(presets()["starnet_s050"], initialization="timm").state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)


def test_blocks_that_start_as_the_identity_leave_the_downsamplers_alone_at_work():
    torch.manual_seed(0)
    deep = build_model(presets()["starnet_s4"], num_classes=10, initialization="identity").eval()
    torch.manual_seed(0)
    published = build_model(presets()["starnet_s4"], num_classes=10).state_dict()
    images = _images()
    x = deep.stem(images)
    for stage in deep.stages:
        x = stage[0](x)
    assert torch.equal(deep.forward_features(images), deep.norm(x))
    differing = {name for name, value in deep.state_dict().items() if not torch.equal(value, published[name])}
    assert {name.split(".", 3)[-1] for name in differing} == {"dwconv2.conv.weight", "dwconv2.conv.bias"}


def test_features_only_gives_timms_maps_and_their_description():
    theirs = timm.create_model("starnet_s050", features_only=True).eval()
    ours = timm.create_model("starsearch_starnet", architecture="starnet_s050", features_only=True).eval()
    ours.load_state_dict(theirs.state_dict())
    assert ours.feature_info.channels() == theirs.feature_info.channels() == [16, 32, 64, 128]
    assert ours.feature_info.reduction() == theirs.feature_info.reduction() == [4, 8, 16, 32]
    for our_map, their_map in zip(ours(_images()), theirs(_images()), strict=True):
        assert torch.equal(our_map, their_map)


def test_features_of_other_stages_and_strides_have_the_size_they_say():
    options = {"architecture": "starnet:depths=1-0-1,widths=8-12-20", "stem_stride": 1, "features_only": True}
    model = timm.create_model("starsearch_starnet", **options, out_indices=(0, 2)).eval()
    maps = model(_images())
    assert [m.shape[1] for m in maps] == model.feature_info.channels() == [8, 20]
    assert [64 // m.shape[2] for m in maps] == model.feature_info.reduction() == [2, 8]


def test_reset_classifier_and_a_headless_network_give_the_pooled_features():
    model = timm.create_model("starsearch_starnet", architecture=SMALL, num_classes=10).eval()
    assert model(_images()).shape == (2, 10)
    model.reset_classifier(3)
    assert model(_images()).shape == (2, 3)
    model.reset_classifier(0)
    headless = timm.create_model("starsearch_starnet", architecture=SMALL, num_classes=0).eval()
    headless.load_state_dict(model.state_dict())
    features = model(_images())
    assert features.shape == (2, model.num_features)
    assert torch.equal(features, headless(_images()))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"output_stride": 16}, "output_stride is 32; got 16"),
        ({"initialization": "xavier"}, "initialization is 'official', 'timm' or 'identity'; got 'xavier'"),
        ({"architecture": "starnet_s9"}, "Unknown architecture 'starnet_s9'"),
    ],
)
def test_a_wrong_option_is_refused_with_what_is_allowed(options, text):
    with pytest.raises(ArchitectureError) as error:
        timm.create_model("starsearch_starnet", **options)
    assert text in str(error.value)


def test_an_unknown_keyword_is_refused_where_timms_own_model_swallows_it():
    with pytest.raises(TypeError, match="kernel_size"):
        timm.create_model("starsearch_starnet", kernel_size=5)


def test_one_branch_costs_as_much_as_two_and_a_shared_one_less():
    both, one, self_ = (
        count_macs(parse_architecture(f"starnet:embed_dim=32,depths=3-3-12-5,branches={name}"))
        for name in ("both", "one", "self")
    )
    assert one == both == count_macs(presets()["starnet_s4"])
    assert self_ < both


@pytest.mark.parametrize("branches", ["one", "self"])
def test_a_block_computes_what_the_paper_writes(branches):
    """Section 4.3: (W2ᵀ act(W1ᵀ X)) ∗ X; section 3.3: X ∗ X, here of W1ᵀ X."""
    torch.manual_seed(0)
    model = build_model(parse_architecture(f"starnet:embed_dim=8,depths=1,branches={branches}"), num_classes=5).eval()
    block = model.stages[0][1]
    x = torch.randn(2, 8, 6, 6)
    mixed = block.dwconv(x)
    inner = block.f1(mixed)
    active = inner.clamp(0, 6)
    expected = block.g(active) * mixed if branches == "one" else block.g(active * inner)
    torch.testing.assert_close(block(x), x + block.dwconv2(expected))
