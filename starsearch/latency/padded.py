"""Whether a network is faster with its channels padded: decided one network at a time, since many are not."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from starsearch.export.onnx import build_onnx
from starsearch.export.weights import FloatArray, pad_weights
from starsearch.families.layers import Layer, pad_channels
from starsearch.latency.backends.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.lock import computing
from starsearch.latency.paired import COPIES, Copies, PairLimits, measure_paired
from starsearch.latency.statistics import Interval
from starsearch.progress import Progress

IMAGE_CHANNELS = 4  # a convolution of at most so many channels reads an image, not a blocked map
# A padded file is larger, and two sessions of one and the same network differ by half a percent or so.
_LEAST_GAIN = 0.01
LIMITS = PairLimits(min_pairs=20, max_pairs=60, half_width=0.005)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingChoice:
    """What was found out about padding a network's channels."""

    tried: int  # the multiple of channels that was judged
    multiple: int | None  # the multiple to export the network with; None where it is best left as it is
    ratio: float  # time of the padded network by the plain one's; 1 where padding changes nothing
    interval: Interval | None = None  # 95 % interval of `ratio`; None where padding changes nothing: nothing is timed
    pairs: int = 0

    @property
    def text(self) -> str:
        """A sentence for the user."""
        if self.interval is None:
            return f"Not padded: padding channels to multiples of {self.tried} gains nothing."
        bounds = f"(95 %: {self.interval.low:.3f} to {self.interval.high:.3f})"
        how = f"to multiples of {self.tried} channels it takes {self.ratio:.3f} times as long {bounds}"
        return f"{'Padded' if self.multiple else 'Not padded'}: {how}."


def is_unblocked(layer: Layer) -> bool:
    """Whether ONNX Runtime runs a layer in its slow plain layout: it blocks channels by fours at least."""
    channels = layer.in_shape[0]
    is_dense = layer.op == "conv" and layer.groups == 1 and channels > IMAGE_CHANNELS
    return is_dense and bool(channels % 4 or layer.out_shape[0] % 4)


def choose_padding(
    layers: Sequence[Layer],
    weights: Mapping[str, FloatArray],
    *,
    multiple: int,
    rng: np.random.Generator,
    threads: int = 1,
) -> Generator[Progress, None, PaddingChoice]:
    """Time the padded network against the plain one on this machine; yield after each stretch.

    It is padded only where the whole interval of the ratio says that this gains a hundredth: never to be slower. The
    `multiple` of channels is the device's vector width.
    """
    padded = pad_channels(layers, multiple=multiple)
    if padded == tuple(layers):
        return PaddingChoice(tried=multiple, multiple=None, ratio=1.0)
    with computing():
        graphs = build_onnx(padded, pad_weights(layers, padded, weights)), build_onnx(layers, weights)
    candidate, reference = (
        Copies(partial(OnnxRuntimeTimer, graph, rng=rng, threads=threads), COPIES) for graph in graphs
    )
    paired = yield from measure_paired(candidate, reference, rng=rng, limits=LIMITS)
    return PaddingChoice(
        tried=multiple,
        multiple=multiple if paired.interval.high < 1 - _LEAST_GAIN else None,
        ratio=paired.ratio,
        interval=paired.interval,
        pairs=paired.pairs,
    )
