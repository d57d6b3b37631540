"""Signals against small computations of their own, on networks of a few layers."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata
from torch import nn
from torch.nn import functional

from starsearch.accuracy.signals import AZ_NAS, SIGNALS, SignalBatches, az_nas, make_batches, read_signals
from starsearch.errors import SpecError
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.progress import follow

TINY = "starnet:embed_dim=16,depths=1-1,mlp_ratio=2"


@pytest.fixture
def batches():
    torch.manual_seed(0)
    return SignalBatches(images=torch.randn(2, 5, 3, 8, 8), targets=torch.randint(4, (2, 5)), num_classes=4)


@pytest.fixture
def layers():
    """A network without norms, whose hidden values the test can compute."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 7), nn.ReLU6(), nn.Linear(7, 4))


def states(layers, images):
    """For each image the state of each activation: off, on, at its upper bound."""
    layers[1].weight.data *= 10  # so that some are beyond 6
    hidden = layers[1](layers[0](images))
    return [[0 if v <= 0 else 2 if v >= 6 else 1 for v in row] for row in hidden.tolist()]


def tiny(op="star"):
    return build_model(parse_architecture(f"{TINY},ops={op}"), num_classes=4).train()


def read(name, network, batches):
    torch.manual_seed(3)
    return SIGNALS[name](network, batches)


def redrawn(build, draw):
    """Return a new network with the weights that a signal draws after this seed, module by module, and no biases."""
    network = build()
    torch.manual_seed(3)
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            draw(module.weight.data)
            module.bias.data.zero_()
    return network


def features(network, images):
    """Return the maps behind the stem and behind each stage, of one block."""
    return list(itertools.accumulate(network.stages, lambda maps, stage: stage(maps), initial=network.stem(images)))


def loss_gradients(network, images, targets):
    network.zero_grad()
    functional.cross_entropy(network(images), targets).backward()
    return [m.weight.grad.clone() for m in network.modules() if isinstance(m, nn.Linear | nn.Conv2d)]


def test_nwot_is_the_determinant_of_how_many_states_images_share(layers, batches):
    codes = states(layers, batches.images[0])
    assert {state for row in codes for state in row} == {0, 1, 2}
    kernel = torch.tensor([[float(sum(a == b for a, b in zip(x, y, strict=True))) for x in codes] for y in codes])
    assert SIGNALS["nwot"](layers, batches) == pytest.approx(float(torch.logdet(kernel)), rel=1e-4)


def test_swap_counts_different_patterns_of_values_over_images(layers, batches):
    codes = states(layers, batches.images[0])
    assert SIGNALS["swap"](layers, batches) == len(set(zip(*codes, strict=True)))


def test_snip_and_grad_norm_are_sums_over_the_gradients_of_backward(layers, batches):
    gradients = loss_gradients(layers, batches.images[0], batches.targets[0])
    weights = [layers[1].weight, layers[3].weight]
    snip = sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, gradients, strict=True))
    assert SIGNALS["snip"](layers, batches) == pytest.approx(snip, rel=1e-5)
    assert SIGNALS["grad_norm"](layers, batches) == pytest.approx(sum(float(g.norm()) for g in gradients), rel=1e-5)


def test_synflow_of_linear_layers_is_the_product_of_their_absolute_weights(layers, batches):
    flow = layers[3].weight.abs() @ layers[1].weight.abs() @ torch.ones(192)
    assert SIGNALS["log_synflow"](layers, batches) == pytest.approx(math.log(2 * float(flow.detach().sum())), rel=1e-6)


def test_synflow_of_stars_is_how_their_geometric_mean_grows_with_all_weights(batches):
    network = tiny().double()

    def flow(scale):
        def convolve(layer, x):
            conv = layer.conv
            weight = scale * conv.weight.detach().abs()
            return functional.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)

        x = convolve(network.stem[0], torch.ones(1, 3, 8, 8, dtype=torch.float64))
        for down, block in network.stages:
            x = convolve(down, x)
            y = convolve(block.dwconv, x)
            y = (convolve(block.f1, y) * convolve(block.f2, y)) ** 0.5
            x = x + convolve(block.dwconv2, convolve(block.g, y))
        return float((scale * network.head.weight.detach().abs() @ x.mean((0, 2, 3))).sum())

    step = 1e-5  # Σ w ∂R/∂w is the derivative by a common factor of the weights
    expected = math.log((flow(1 + step) - flow(1 - step)) / (2 * step))
    assert SIGNALS["log_synflow"](network, batches) == pytest.approx(expected, rel=1e-6)


def test_synflow_of_a_deep_star_without_activations_is_finite(batches):
    network = build_model(parse_architecture("starnet:depths=1-9,mlp_ratio=2,activation=none"), num_classes=4)
    assert math.isfinite(SIGNALS["log_synflow"](network, batches))


def test_zico_is_the_logarithm_of_mean_over_deviation_summed_layer_by_layer(layers, batches):
    first, second = (loss_gradients(layers, *one) for one in zip(batches.images, batches.targets, strict=True))
    expected = 0.0
    for a, b in zip(first, second, strict=True):
        ratios = [
            (x + y) / abs(x - y)  # of two values: mean (x + y) / 2, deviation |x - y| / 2
            for x, y in zip(a.abs().double().flatten().tolist(), b.abs().double().flatten().tolist(), strict=True)
            if x != y
        ]
        expected += math.log(sum(ratios))
    assert SIGNALS["zico"](layers, batches) == pytest.approx(expected, rel=1e-3)


def test_meco_is_the_least_eigenvalue_of_correlated_channels(batches):
    network = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Flatten(), nn.LazyLinear(4))
    maps = network[0](batches.images[0]).detach().double().transpose(0, 1).flatten(1)
    maps = (maps - maps.mean(1, keepdim=True)) / maps.std(1, keepdim=True)
    correlations = maps @ maps.T / (maps.shape[1] - 1)
    assert SIGNALS["meco"](network, batches) == pytest.approx(
        float(torch.linalg.eigvalsh(correlations).min()), rel=1e-4
    )


def test_meco_of_many_channels_is_that_of_eight_of_them(batches):
    network = nn.Sequential(nn.Conv2d(3, 16, 3))
    maps = network(batches.images[0]).detach().double().transpose(0, 1).flatten(1)
    found = read("meco", network, batches)
    torch.manual_seed(3)
    maps = maps[torch.randperm(16)[:8]]
    assert found == pytest.approx(float(torch.linalg.eigvals(torch.corrcoef(maps)).real.min()) * 16 / 8, rel=1e-4)


def test_expressivity_is_the_entropy_of_the_blocks_principal_components_and_progressivity_its_growth(batches):
    found = {name: read(name, tiny(), batches) for name in ("az_expressivity", "az_progressivity")}
    network = redrawn(tiny, lambda weight: weight.normal_(0, math.sqrt(2 / weight[0].numel())))
    entropies = []
    for maps in features(network, batches.images[0]):
        columns = maps.detach().permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).double()
        shares = torch.linalg.svdvals(columns - columns.mean(0)) ** 2
        shares = shares[shares > 1e-12 * shares.max()] / shares.sum()
        entropies.append(-float((shares * shares.log()).sum()))
    assert found["az_expressivity"] == pytest.approx(sum(entropies), rel=1e-3)
    growth = min(b - a for a, b in itertools.pairwise(entropies))
    assert found["az_progressivity"] == pytest.approx(growth, abs=1e-3)


def test_trainability_is_how_near_the_jacobians_largest_singular_value_is_to_one(batches):
    found = read("az_trainability", tiny(), batches)
    network = redrawn(tiny, lambda weight: weight.normal_(0, math.sqrt(2 / weight[0].numel())))
    kept = features(network, batches.images[0])
    scores = []
    for before, after, stage in zip(kept, kept[1:], network.stages, strict=False):
        sent = torch.randint(2, after.shape) * 2.0 - 1
        given = before.detach().requires_grad_()
        (stage(given) * sent).sum().backward()
        stride = before.shape[-1] // after.shape[-1]
        patches = functional.unfold(given.grad, stride, stride=stride)  # by position of the smaller map
        jacobian = torch.einsum("bip,bop->io", patches, sent.flatten(2)) / (len(sent) * patches.shape[-1])
        largest = float(torch.linalg.matrix_norm(jacobian, 2))
        scores.append(2 - largest - 1 / largest)
    assert found == pytest.approx(sum(scores) / len(scores), rel=1e-3)


def test_az_nas_is_the_sum_of_the_logarithms_of_relative_ranks():
    rows = np.random.default_rng(0).random((7, 4))
    expected = np.log(rankdata(rows, axis=0) / 7).sum(axis=1)
    assert az_nas(pd.DataFrame(rows, columns=list(AZ_NAS))).tolist() == pytest.approx(expected.tolist())


@pytest.mark.parametrize("op", ["star", "sum"])
def test_zen_is_a_distance_of_outputs_without_skips_times_the_norms_scales_twice_before_a_star(batches, op):
    found = read("zen", tiny(op), batches)
    network = redrawn(lambda: tiny(op), lambda weight: weight.normal_())
    images, scales = batches.images[0], []

    def normalize(layer, x, times=1):
        x = layer.conv(x)
        scales.append(times * math.log(float(x.detach().var((0, 2, 3), correction=0).mean()) ** 0.5))
        return layer.bn(x)

    def compute(x):
        x = normalize(network.stem[0], x).clamp(0, 6)
        for down, block in network.stages:
            y = normalize(block.dwconv, normalize(down, x), 2 if op == "star" else 1)
            x1, x2 = block.f1(y).clamp(0, 6), block.f2(y)
            x = block.dwconv2(normalize(block.g, x1 * x2 if op == "star" else x1 + x2))
        return x

    first, total = compute(images), sum(scales)
    second = compute(images + 0.01 * torch.randn_like(images))
    distance = (first - second).detach().flatten(1).norm(dim=1).mean()
    assert found == pytest.approx(math.log(float(distance)) + total, rel=1e-3)


def test_a_signal_is_the_same_whatever_else_is_read():
    networks = [
        parse_architecture(TINY),
        parse_architecture(f"{TINY},ops=sum"),
        parse_architecture("demonet:width=8,depths=1"),
    ]
    batches = make_batches(resolution=32)
    every = follow(read_signals(networks, batches))
    assert every.notna().all().all()
    assert list(every) == list(SIGNALS)
    again = follow(read_signals(networks[:1], make_batches(resolution=32), names=["zen", "meco", "az_trainability"]))
    for name in again:
        assert again[name][0] == pytest.approx(every[name][0], rel=1e-5)
    assert every.attrs["seconds"]["zico"] > 0


def test_a_signal_that_overflows_has_no_value(monkeypatch):
    monkeypatch.setitem(SIGNALS, "zen", lambda network, batches: math.inf)
    read = follow(read_signals([parse_architecture(TINY)], make_batches(resolution=32), names=["zen"]))
    assert math.isnan(read["zen"][0])


def test_an_unknown_signal_is_named_with_those_that_are_known():
    with pytest.raises(SpecError, match=r"Unknown signal 'zeno'. Did you mean 'zen'\?"):
        follow(read_signals([], make_batches(resolution=32), names=["zeno"]))


def test_batches_of_data_have_images_of_all_classes():
    from starsearch.data import open_data

    batches = make_batches(open_data("digits"), resolution=32, seed=1)
    assert batches.images.shape == (2, 32, 3, 32, 32)
    assert sorted(set(itertools.chain(*batches.targets.tolist()))) == list(range(10))
