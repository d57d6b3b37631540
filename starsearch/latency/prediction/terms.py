"""What a layer costs, in physical terms: a predictor's features, each with a time that cannot be negative.

A roofline per layer: arithmetic, bytes moved, weights read, and a fixed cost per kernel launch. Channels count
rounded up to the vector width, since a blocked layout computes the padding, too. What a runtime does at no cost (an
activation fused into its convolution) is found out by the fit, not assumed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer
from starsearch.latency.padded import IMAGE_CHANNELS, is_unblocked

Terms = Mapping[str, float]
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
    """One feature of a kind of layer; "kind.name" is a term of a profile.

    Attributes:
        name: the unit and what is counted.
        amount: how much of it a layer has.
        why: the hardware's effect behind it.
    """

    name: str
    amount: Callable[[_Shape], float]
    why: str


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
_ELEMENTWISE = (Quantity("mbytes", lambda s: s.out_size * _MBYTES, "a pass over the map through memory"), _FIXED)

QUANTITIES: Mapping[str, tuple[Quantity, ...]] = {
    "image": (Quantity("mmacs", lambda s: s.in_channels * s.out_size * s.taps * _MEGA, "arithmetic, unblocked input"),),
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
    "residual": _ELEMENTWISE,
    "norm": (),  # folded into the head
    "pool": (Quantity("mbytes", lambda s: s.in_size * _MBYTES, "reading the map"),),
    "linear": (Quantity("weight_mbytes", lambda s: s.in_channels * s.out_channels * _MBYTES, "reading the weights"),),
}
"""By operation (convolutions: by what a runtime makes of them), what its time grows with. The fit on measured networks
(studies/benchmarks/latency/prediction.py) says how much of each a device feels: many coefficients are zero."""

# Vectors do not count: an image's three channels, an unblocked layout, and a head of pooled values are not padded.
_WITHOUT_VECTORS = ("image", "unblocked", "linear")


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTerms:
    """One layer's features.

    Attributes:
        layer: its name.
        kind: which layers are timed together: "pointwise", "depthwise7", "star" …
        terms: features by "kind.quantity"; empty for a layer that costs nothing.
    """

    layer: str
    kind: str
    terms: Terms


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTerms:
    """A network's features: sums of its layers' terms by kind, and how many layers of each kind it has."""

    by_kind: Mapping[str, Terms]
    layers: Mapping[str, int]

    @property
    def total(self) -> dict[str, float]:
        """All terms, with the network's own fixed cost."""
        terms = {name: value for kind in self.by_kind.values() for name, value in kind.items()}
        return {NETWORK_FIXED: 1.0, **terms}


def layer_terms(layers: Sequence[Layer], *, vector_width: int) -> tuple[LayerTerms, ...]:
    """Return the features of every layer of a lowering; `vector_width` is the channels a vector takes, 1 for none."""
    producers = {layer.name: layer.op for layer in layers}
    return tuple(_describe(layer, producers, vector_width) for layer in layers)


def sum_terms(described: Iterable[LayerTerms]) -> NetworkTerms:
    """Return the features of a network of these layers."""
    by_kind: dict[str, defaultdict[str, float]] = {}
    layers: Counter[str] = Counter()
    for layer in described:
        if not layer.terms:
            continue
        layers[layer.kind] += 1
        sums = by_kind.setdefault(layer.kind, defaultdict(float))
        for name, value in layer.terms.items():
            sums[name] += value
    return NetworkTerms(by_kind=by_kind, layers=layers)


def describe_network(architecture: Architecture, *, resolution: int, vector_width: int) -> NetworkTerms:
    """Return the features of exactly the layers that an architecture names, with 1000 classes."""
    return sum_terms(layer_terms(lower(architecture, resolution=resolution), vector_width=vector_width))


def sort_of_work(term: str) -> str:
    """Return "kind.fixed" for a fixed cost, else "kind.work"; kernels of one kind run at one speed."""
    kind, quantity = term.rsplit(".", 1)
    return f"{kind.rstrip('0123456789')}.{'fixed' if quantity == 'fixed' else 'work'}"


def _describe(layer: Layer, producers: Mapping[str, str], vector_width: int) -> LayerTerms:
    row, kind = _kind(layer, producers)
    shape = _Shape(layer, 1 if row in _WITHOUT_VECTORS else vector_width)
    terms = {f"{kind}.{quantity.name}": quantity.amount(shape) for quantity in QUANTITIES[row]}
    return LayerTerms(layer=layer.name, kind=kind, terms=terms)


def _kind(layer: Layer, producers: Mapping[str, str]) -> tuple[str, str]:
    """Return the layer's row of `QUANTITIES`, and the name under which it is timed."""
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
