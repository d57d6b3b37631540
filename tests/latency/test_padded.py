import numpy as np
import pytest

from starsearch.export.weights import random_weights
from starsearch.families.family import lower
from starsearch.families.text import parse_architecture
from starsearch.latency import padded
from starsearch.latency.paired import PairLimits
from starsearch.progress import follow


def choose(text):
    layers, rng = lower(parse_architecture(text), resolution=64, num_classes=10), np.random.default_rng(0)
    return follow(padded.choose_padding(layers, random_weights(layers, rng), multiple=8, rng=rng))


def test_a_network_is_padded_only_where_the_whole_interval_says_that_it_is_faster(monkeypatch):
    monkeypatch.setattr(padded, "LIMITS", PairLimits(min_pairs=20, max_pairs=20))
    choice = choose("starnet:embed_dim=10,depths=1-1,stem_width=10")
    assert choice.interval.low <= choice.ratio <= choice.interval.high
    assert choice.multiple == (8 if choice.interval.high < 0.99 else None)
    assert choice.text.startswith("Padded" if choice.multiple else "Not padded")
    assert f"{choice.ratio:.3f}" in choice.text


def test_an_aligned_network_is_not_timed():
    choice = choose("starnet:embed_dim=8,depths=1-1,stem_width=16")
    assert (choice.multiple, choice.ratio, choice.interval) == (None, 1.0, None)
    assert "gains nothing" in choice.text


@pytest.mark.parametrize(("width", "is_unblocked"), [(30, True), (28, False)])
def test_only_dense_convolutions_of_channels_that_are_no_multiple_of_four_leave_the_blocked_layout(width, is_unblocked):
    layers = lower(parse_architecture(f"starnet:embed_dim={width},depths=1-0-0-0"), resolution=64)
    assert {layer.op for layer in layers if padded.is_unblocked(layer)} == ({"conv"} if is_unblocked else set())
    assert not padded.is_unblocked(layers[0]), "an image's three channels are another matter"
