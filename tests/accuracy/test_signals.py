"""Signals against small computations of their own, on networks of a few layers."""

import itertools
import math

import pytest
import torch
from torch import nn
from torch.nn import functional

from starsearch.accuracy.signals import SIGNALS, SignalBatches, make_batches, read_signals
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


def test_expressivity_is_the_entropy_of_each_blocks_principal_components(batches):
    network = build_model(parse_architecture(TINY), num_classes=4).train()
    torch.manual_seed(3)
    found = SIGNALS["az_expressivity"](network, batches)  # leaves the network with the weights it has drawn
    kept = [network.stem(batches.images[0])]
    for stage in network.stages:
        kept.append(stage(kept[-1]))
    expected = 0.0
    for maps in kept:
        columns = maps.detach().permute(0, 2, 3, 1).reshape(-1, maps.shape[1]).double()
        shares = torch.linalg.svdvals(columns - columns.mean(0)) ** 2
        shares = shares[shares > 1e-12 * shares.max()] / shares.sum()
        expected -= float((shares * shares.log()).sum())
    assert found == pytest.approx(expected, rel=1e-3)


def test_zen_weighs_the_norm_before_a_star_twice_and_skips_the_blocks_inputs(batches):
    scores = {}
    for op in ("star", "sum"):
        network = build_model(parse_architecture(f"{TINY},ops={op}"), num_classes=4).train()
        scores[op] = SIGNALS["zen"](network, batches)
        images, logs = batches.images[0], 0.0
        norms = [network.stem[0].bn]
        for stage in network.stages:
            norms += [stage[0].bn, stage[1].dwconv.bn, stage[1].g.bn]
        seen = {}
        for norm in norms:
            norm.register_forward_pre_hook(lambda norm, given, seen=seen: seen.setdefault(norm, given[0].detach()))
        network(images)
        for norm in norms:
            times = 2 if op == "star" and any(norm is stage[1].dwconv.bn for stage in network.stages) else 1
            logs += times * math.log(float(seen[norm].var((0, 2, 3), correction=0).mean()) ** 0.5)
        assert abs(scores[op] - logs) < 12  # the rest is the logarithm of one distance
    assert scores["star"] != scores["sum"]


def test_a_signal_is_the_same_whatever_else_is_read():
    networks = [
        parse_architecture(TINY),
        parse_architecture(f"{TINY},ops=sum"),
        parse_architecture("demonet:width=8,depths=1"),
    ]
    batches = make_batches(resolution=32)
    every = follow(read_signals(networks, batches))
    assert every.notna().all().all()
    assert set(every) == {*SIGNALS, "az_nas"}
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
