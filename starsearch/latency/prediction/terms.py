"""What a layer costs, in physical terms: a predictor's features, each with a time that cannot be negative.

A roofline per layer: arithmetic, bytes moved, weights read, and a fixed cost per kernel launch. Channels count
rounded up to the vector width, since a blocked layout computes the padding, too. What a runtime does at no cost (an
activation fused into its convolution) is found out by the fit, not assumed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

from starsearch.families.layers import Layer
from starsearch.latency.padded import IMAGE_CHANNELS, is_unblocked

NETWORK_FIXED = "network.fixed"

_MEGA = 1e-6
_MBYTES = 4e-6  # of a float32; for other precisions the fit scales it
# Output channels that ONNX Runtime's blocked convolution computes in one pass over its input: four vectors.
_VECTORS_A_PASS = 4
# Input channels of a pointwise convolution that are summed before the output is written back (MLAS).
_CHANNELS_A_SUM = 128


class _Shape:
    """A layer's sizes with channels rounded up to the vector width."""

    def __init__(self, layer: Layer, vector_width: int) -> None:
        self.kernel, self.taps = layer.kernel_size, layer.kernel_size**2
        self.in_channels, self.out_channels = (
            _round_up(shape[0], vector_width) for shape in (layer.in_shape, layer.out_shape)
        )
        self.height, self.positions = layer.out_shape[1], layer.out_shape[1] * layer.out_shape[2]
        self.in_size = self.in_channels * layer.in_shape[1] * layer.in_shape[2]
        self.out_size = self.out_channels * self.positions
        self.passes = -(-self.out_channels // (_VECTORS_A_PASS * max(vector_width, 4)))
        self.sums = -(-self.in_channels // _CHANNELS_A_SUM)


class Quantity(NamedTuple):
    """One feature of a kind of layer; "kind.name" is a term of a profile."""

    name: str  # the unit and what is counted
    amount: Callable[[_Shape], float]  # how much of it a layer has
    why: str  # the hardware's effect behind it


_FIXED = Quantity("fixed", lambda _: 1.0, "launching the kernel")
_DENSE = (
    Quantity("mmacs", lambda s: s.in_channels * s.out_size * s.taps * _MEGA, "arithmetic in full vectors"),
    Quantity(
        "pass_mmacs",
        lambda s: s.passes * s.in_channels * s.positions * s.taps * _MEGA,
        "loading each input value once per pass of four output vectors (ONNX Runtime's blocked convolution)",
    ),
    Quantity("in_mbytes", lambda s: s.passes * s.in_size * _MBYTES, "reading the map once a pass"),
    Quantity("out_mbytes", lambda s: s.out_size * _MBYTES, "writing the map"),
    Quantity("sum_mbytes", lambda s: s.out_size * s.sums * _MBYTES, "writing partial sums of 128 channels back (MLAS)"),
    Quantity("weight_mbytes", lambda s: s.in_channels * s.out_channels * s.taps * _MBYTES, "reading the weights"),
    _FIXED,
)
_IMAGE = (Quantity("mmacs", lambda s: s.in_channels * s.out_size * s.taps * _MEGA, "arithmetic, unblocked input"),)
_ELEMENTWISE = (Quantity("mbytes", lambda s: s.out_size * _MBYTES, "a pass over the map through memory"), _FIXED)

QUANTITIES: Mapping[str, tuple[Quantity, ...]] = {
    "image": _IMAGE,
    "patches": _IMAGE,
    "depthwise": (
        Quantity("mmacs", lambda s: s.out_size * s.taps * _MEGA, "arithmetic in full vectors"),
        Quantity(
            "border_mmacs",
            lambda s: s.out_channels * s.height * s.kernel * (s.kernel - 1) * _MEGA,
            "columns at the left and right border are computed point by point",
        ),
        Quantity(
            "rows",
            lambda s: s.out_channels * s.height * s.kernel * _MEGA,
            "a start of the inner loop for each kernel row",
        ),
        Quantity("mbytes", lambda s: 2 * s.out_size * _MBYTES, "reading and writing the map"),
        _FIXED,
    ),
    "pointwise": _DENSE,
    "dense": _DENSE,
    "unblocked": _DENSE,
    "activation": _ELEMENTWISE,
    "star": _ELEMENTWISE,
    "sum": _ELEMENTWISE,
    "max": _ELEMENTWISE,
    "gate": _ELEMENTWISE,
    "residual": _ELEMENTWISE,
    "norm": (),  # folded into the head
    "layer_norm": _ELEMENTWISE,
    "scale": _ELEMENTWISE,
    "pool": (Quantity("mbytes", lambda s: s.in_size * _MBYTES, "reading the map"),),
    "linear": (Quantity("weight_mbytes", lambda s: s.in_channels * s.out_channels * _MBYTES, "reading the weights"),),
}
"""By operation (convolutions: by what a runtime makes of them), what its time grows with. The fit on measured networks
(studies/benchmarks/prediction.py) says how much of each a device feels: many coefficients are zero."""

# Vectors do not count: an image's three channels, an unblocked layout, and a head of pooled values are not padded.
_WITHOUT_VECTORS = ("image", "patches", "unblocked", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTerms:
    """A network's features."""

    by_kind: Mapping[str, Mapping[str, float]]  # sums over the layers of a kind ("depthwise7"), by "kind.quantity"
    layers: Mapping[str, int]  # how many layers of each kind there are; those that cost nothing are left out

    @classmethod
    def of(cls, layers: Sequence[Layer], *, vector_width: int) -> Self:
        """Return the features of a lowering; `vector_width` is the channels a vector takes, 1 for none."""
        by_kind: defaultdict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
        count: Counter[str] = Counter()
        for kind, terms in layer_terms(layers, vector_width=vector_width):
            if terms:
                count[kind] += 1
            for term, amount in terms.items():
                by_kind[kind][term] += amount
        return cls(by_kind=by_kind, layers=count)

    @property
    def total(self) -> dict[str, float]:
        """All terms, with the network's own fixed cost."""
        terms = {name: value for kind in self.by_kind.values() for name, value in kind.items()}
        return {NETWORK_FIXED: 1.0, **terms}


def layer_terms(layers: Sequence[Layer], *, vector_width: int) -> Iterator[tuple[str, dict[str, float]]]:
    """Yield each layer's kind and terms."""
    for layer, (row, kind) in zip(layers, _rows_and_kinds(layers), strict=True):
        shape = _Shape(layer, 1 if row in _WITHOUT_VECTORS else vector_width)
        yield kind, {f"{kind}.{quantity.name}": quantity.amount(shape) for quantity in QUANTITIES[row]}


def layer_kinds(layers: Sequence[Layer]) -> dict[str, str]:
    """Return by its name each layer's kind: layers of one kind are timed together."""
    return {layer.name: kind for layer, (_, kind) in zip(layers, _rows_and_kinds(layers), strict=True)}


def sort_of_work(term: str) -> str:
    """Return "kind.fixed" for a fixed cost, else "kind.work"; kernels of one kind run at one speed."""
    kind, quantity = term.rsplit(".", 1)
    return f"{kind.rstrip('0123456789')}.{'fixed' if quantity == 'fixed' else 'work'}"


def _rows_and_kinds(layers: Sequence[Layer]) -> list[tuple[str, str]]:
    """Return each layer's row of `QUANTITIES`, and the kind under which it is timed."""
    producers = {layer.name: layer.op for layer in layers}
    return [_row_and_kind(layer, producers) for layer in layers]


def _row_and_kind(layer: Layer, producers: Mapping[str, str]) -> tuple[str, str]:
    if layer.op == "activation":
        # After a star or sum it is a pass of its own; after a convolution a runtime may fuse it.
        place = "convolution" if producers.get(layer.inputs[0]) == "conv" else "map"
        return layer.op, f"{layer.act_type}_after_{place}"
    if layer.op != "conv":
        return layer.op, layer.op
    if layer.is_depthwise:
        row = "depthwise"
    elif layer.in_shape[0] <= IMAGE_CHANNELS:
        row = "image"
    elif is_unblocked(layer):
        row = "unblocked"
    else:
        row = "pointwise" if layer.kernel_size == 1 else "dense"
    return row, row if row == "pointwise" else f"{row}{layer.kernel_size}"


def _round_up(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple
