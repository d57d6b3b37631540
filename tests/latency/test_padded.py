import numpy as np
import pytest

from starsearch.export import random_weights
from starsearch.families.family import lower
from starsearch.families.text import parse_architecture
from starsearch.latency.device import vector_width
from starsearch.latency.padded import choose_padding, choose_padding_by_prediction
from starsearch.latency.paired import PairLimits

UNALIGNED = "starnet:embed_dim=10,depths=1-1,stem_width=10"
ALIGNED = "starnet:embed_dim=8,depths=1-1,stem_width=16"


def _layers(text):
    return lower(parse_architecture(text), resolution=64, num_classes=10)


def _choose(text, alone, **limits):
    layers, rng = _layers(text), np.random.default_rng(0)
    steps = choose_padding(
        layers, random_weights(layers, rng), multiple=8, rng=rng, limits=PairLimits(**limits), alone=alone
    )
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


def test_a_network_is_padded_only_where_the_whole_interval_says_that_it_is_faster(alone):
    choice = _choose(UNALIGNED, alone, min_pairs=20, max_pairs=20)
    assert choice.pairs == 20
    assert choice.interval.low <= choice.ratio <= choice.interval.high
    assert choice.multiple == (8 if choice.interval.high < 0.99 else None)
    assert choice.text.startswith("Padded" if choice.multiple else "Not padded")
    assert f"{choice.ratio:.3f}" in choice.text


def test_an_aligned_network_is_not_timed(alone):
    choice = _choose(ALIGNED, alone)
    assert (choice.multiple, choice.ratio, choice.pairs, choice.interval) == (None, 1.0, 0, None)
    assert "gains nothing" in choice.text


@pytest.mark.parametrize(("padded_ms", "multiple"), [(0.7, 8), (0.96, None), (1.2, None)])
def test_for_another_device_its_predicted_times_decide(padded_ms, multiple):
    layers = _layers(UNALIGNED)

    def predict_ms(asked):
        return 1.0 if tuple(asked) == layers else padded_ms

    choice = choose_padding_by_prediction(layers, multiple=8, predict_ms=predict_ms)
    assert choice.multiple == multiple
    assert choice.ratio == padded_ms
    assert "as predicted" in choice.text


def test_an_aligned_network_is_not_predicted():
    choice = choose_padding_by_prediction(_layers(ALIGNED), multiple=8, predict_ms=lambda layers: 0.0)
    assert (choice.multiple, choice.ratio) == (None, 1.0)


@pytest.mark.parametrize(
    ("flags", "machine", "width"),
    [
        ("fpu avx avx2 avx512f avx512_vnni", "x86_64", 16),
        ("fpu avx avx2", "x86_64", 8),
        ("fp asimd", "aarch64", 4),
        (None, "AMD64", 8),
        (None, "arm64", 4),
    ],
)
def test_the_vector_width_follows_the_processors_flags(tmp_path, flags, machine, width):
    cpuinfo = tmp_path / "cpuinfo"
    if flags is not None:
        cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n")
    assert vector_width(cpuinfo, machine=machine) == width
