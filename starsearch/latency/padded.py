"""Whether a network is faster with its channels padded: decided a network at a time, since many are not."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from starsearch.export.onnx import build_onnx
from starsearch.export.padding import pad_weights
from starsearch.export.weights import FloatArray
from starsearch.families.layers import Layer, pad_channels
from starsearch.latency.lock import computing, measuring
from starsearch.latency.onnxruntime import OnnxRuntimeTimer
from starsearch.latency.paired import COPIES, Alone, Copies, PairLimits, measure_paired
from starsearch.latency.statistics import Interval
from starsearch.progress import Progress

# A padded file is larger, and two sessions of one and the same network differ by half a percent or so.
_LEAST_GAIN = 0.01
# A predictor errs by 2 to 4 %, so that a smaller gain may be none.
_LEAST_PREDICTED_GAIN = 0.05
_LIMITS = PairLimits(min_pairs=20, max_pairs=60, half_width=0.005)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaddingChoice:
    """What was found out about padding a network's channels.

    Attributes:
        tried: the channels' multiple that was judged.
        multiple: that to export the network with; None where it is best left as it is.
        ratio: time of the padded network by the plain one's; 1 where padding changes nothing.
        interval: of `ratio`, 95 %; None where it was predicted, or nothing was to be measured.
        pairs: timed; 0 where none were.
    """

    tried: int
    multiple: int | None
    ratio: float
    interval: Interval | None = None
    pairs: int = 0

    @property
    def text(self) -> str:
        """A sentence for the user."""
        if not self.pairs and self.ratio == 1:
            return f"Not padded: padding channels to multiples of {self.tried} gains nothing."
        how = f"to multiples of {self.tried} channels it takes {self.ratio:.3f} times as long"
        bounds = f" (95 %: {self.interval.low:.3f} to {self.interval.high:.3f})" if self.interval else ", as predicted"
        return f"{'Padded' if self.multiple else 'Not padded'}: {how}{bounds}."


def choose_padding(
    layers: Sequence[Layer],
    weights: Mapping[str, FloatArray],
    *,
    multiple: int,
    rng: np.random.Generator,
    threads: int = 1,
    limits: PairLimits = _LIMITS,
    alone: Alone = measuring,
) -> Generator[Progress, None, PaddingChoice]:
    """Time the padded network against the plain one on this machine; yields after each stretch.

    It is padded only where the whole interval of the ratio says that this gains a hundredth: never to be slower.

    Args:
        layers: of `lower`, at the resolution the network is to run at.
        weights: by state-dict key.
        multiple: of channels; `starsearch.latency.device.vector_width` says this machine's.
        rng: of the input's values and the order within the pairs.
        threads: that the network uses.
        limits: when enough pairs have been timed.
        alone: entered around each stretch of runs.

    Raises:
        EvaluationError: ONNX Runtime cannot run the network.
    """
    padded = pad_channels(layers, multiple=multiple)
    if padded == tuple(layers):
        return PaddingChoice(tried=multiple, multiple=None, ratio=1.0)
    with computing():
        graphs = build_onnx(padded, pad_weights(layers, padded, weights)), build_onnx(layers, weights)
    candidate, reference = (
        Copies(partial(OnnxRuntimeTimer, graph, rng=rng, threads=threads), COPIES) for graph in graphs
    )
    paired = yield from measure_paired(candidate, reference, rng=rng, limits=limits, alone=alone)
    return PaddingChoice(
        tried=multiple,
        multiple=multiple if paired.interval.high < 1 - _LEAST_GAIN else None,
        ratio=paired.ratio,
        interval=paired.interval,
        pairs=paired.pairs,
    )


def choose_padding_by_prediction(
    layers: Sequence[Layer], *, multiple: int, predict_ms: Callable[[Sequence[Layer]], float]
) -> PaddingChoice:
    """Compare the two networks' predicted times, where the device that they are for is another one.

    It is padded only where this gains a twentieth by prediction, which is more than predictors err by.

    Args:
        layers: of `lower`, at the resolution the network is to run at.
        multiple: of channels, the device's vector width.
        predict_ms: milliseconds of a network's layers, above zero.
    """
    padded = pad_channels(layers, multiple=multiple)
    if padded == tuple(layers):
        return PaddingChoice(tried=multiple, multiple=None, ratio=1.0)
    ratio = predict_ms(padded) / predict_ms(layers)
    return PaddingChoice(tried=multiple, multiple=multiple if ratio < 1 - _LEAST_PREDICTED_GAIN else None, ratio=ratio)
