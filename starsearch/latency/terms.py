"""What a layer costs, in physical terms: a predictor's features, each with a time that cannot be negative.

A roofline a layer: arithmetic, bytes moved, weights read, and a fixed cost a kernel launch. Channels count
rounded up to the vector width, since a blocked layout computes the padding, too. What a runtime does at no cost (an
activation fused into its convolution) is found out by the fit, not assumed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from starsearch.families.family import Architecture, lower
from starsearch.families.layers import Layer

Terms = Mapping[str, float]
NETWORK_FIXED = "network.fixed"
_UNBLOCKED = "unblocked"

_MEGA = 1e-6
_BYTES = 4  # of a float32; on other precisions the coefficient is another
# Output channels that ONNX Runtime's blocked convolution computes in one pass over its input: four vectors.
_VECTORS_A_PASS = 4
# Input channels of a pointwise convolution that are summed before the output is written back (MLAS).
_CHANNELS_A_SUM = 128
_IMAGE_CHANNELS = 4  # a convolution of at most so many channels reads an image, not a blocked map


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerTerms:
    """One layer's features.

    Attributes:
        layer: its name.
        kind: which layers are timed together: "pointwise", "depthwise7", "star" …; "free" costs nothing.
        terms: by "kind.quantity".
    """

    layer: str
    kind: str
    terms: Terms


def layer_terms(layers: Sequence[Layer], *, vector_width: int) -> tuple[LayerTerms, ...]:
    """The features of every layer.

    Args:
        layers: of the lowering.
        vector_width: channels a vector instruction takes; 1 for none.
    """
    producers = {layer.name: layer.op for layer in layers}
    return tuple(_describe(layer, producers, vector_width) for layer in layers)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkTerms:
    """A network's features.

    Attributes:
        by_kind: the sums of its layers' terms, by kind of layer.
        layers: by kind, how many there are.
    """

    by_kind: Mapping[str, Terms]
    layers: Mapping[str, int]

    @property
    def total(self) -> dict[str, float]:
        """All terms, with the network's own fixed cost."""
        terms = {name: value for kind in self.by_kind.values() for name, value in kind.items()}
        return {NETWORK_FIXED: 1.0, **terms}


def sum_terms(described: Iterable[LayerTerms]) -> NetworkTerms:
    """The features of a network of these layers."""
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
    """The features of an architecture as it is deployed, with 1000 classes."""
    return sum_terms(layer_terms(lower(architecture, resolution=resolution), vector_width=vector_width))


def has_unblocked_channels(layers: Sequence[Layer]) -> bool:
    """Whether a convolution takes ONNX Runtime's slow layout, since its channels are no multiple of four."""
    return any(layer.kind.startswith(_UNBLOCKED) for layer in layer_terms(layers, vector_width=1))


def sort_of_work(term: str) -> str:
    """Fixed costs of a kind of layer, or all its other work; kernels of one kind run at one speed."""
    kind, quantity = term.rsplit(".", 1)
    return f"{kind.rstrip('0123456789')}.{'fixed' if quantity == 'fixed' else 'work'}"


def _describe(layer: Layer, producers: Mapping[str, str], vector_width: int) -> LayerTerms:
    if layer.op == "norm":  # folded into the head
        return LayerTerms(layer=layer.name, kind="free", terms={})
    if layer.op == "activation":
        # After a star or sum it is a pass of its own; after a convolution a runtime may fuse it.
        place = "convolution" if producers.get(layer.inputs[0]) == "conv" else "map"
        kind = f"{layer.act_type}_after_{place}"
        return _named(layer, kind, _elementwise(layer, vector_width))
    if layer.op == "conv":
        return _named(layer, *_convolution(layer, vector_width))
    return _named(layer, layer.op, _OTHERS[layer.op](layer, vector_width))


def _named(layer: Layer, kind: str, quantities: Terms) -> LayerTerms:
    return LayerTerms(
        layer=layer.name, kind=kind, terms={f"{kind}.{name}": value for name, value in quantities.items()}
    )


def _convolution(layer: Layer, vector_width: int) -> tuple[str, Terms]:
    channels, kernel_size = layer.in_shape[0], layer.kernel_size
    if layer.groups == channels > 1:
        return f"depthwise{kernel_size}", _depthwise(layer, vector_width)
    if channels <= _IMAGE_CHANNELS:
        return f"image{kernel_size}", _image(layer)
    if channels % 4 or layer.out_shape[0] % 4:
        # ONNX Runtime blocks channels by fours at least; others take the slower plain layout.
        return f"{_UNBLOCKED}{kernel_size}", _dense(layer, 1)
    kind = "pointwise" if kernel_size == 1 else f"dense{kernel_size}"
    return kind, _dense(layer, vector_width)


def _image(layer: Layer) -> Terms:
    return {"mmacs": layer.in_shape[0] * _size(layer.out_shape, 1) * layer.kernel_size**2 * _MEGA}


def _depthwise(layer: Layer, vector_width: int) -> Terms:
    channels, height, _ = layer.out_shape
    padded, size = _round_up(channels, vector_width), _size(layer.out_shape, vector_width)
    kernel_size = layer.kernel_size
    return {
        "mmacs": size * kernel_size**2 * _MEGA,
        # Rows at the left and right border are computed point by point.
        "border_mmacs": padded * height * kernel_size * (kernel_size - 1) * _MEGA,
        "rows": padded * height * kernel_size * _MEGA,
        "mbytes": 2 * size * _BYTES * _MEGA,
        "fixed": 1.0,
    }


def _dense(layer: Layer, vector_width: int) -> Terms:
    in_channels, out_channels = (_round_up(shape[0], vector_width) for shape in (layer.in_shape, layer.out_shape))
    in_size, out_size = _size(layer.in_shape, vector_width), _size(layer.out_shape, vector_width)
    passes = -(-out_channels // (_VECTORS_A_PASS * max(vector_width, 4)))
    taps, positions = layer.kernel_size**2, layer.out_shape[1] * layer.out_shape[2]
    return {
        "mmacs": in_channels * out_size * taps * _MEGA,
        "pass_mmacs": passes * in_channels * positions * taps * _MEGA,
        "in_mbytes": passes * in_size * _BYTES * _MEGA,
        "out_mbytes": out_size * _BYTES * _MEGA,
        "sum_mbytes": out_size * -(-in_channels // _CHANNELS_A_SUM) * _BYTES * _MEGA,
        "weight_mbytes": in_channels * out_channels * taps * _BYTES * _MEGA,
        "fixed": 1.0,
    }


def _elementwise(layer: Layer, vector_width: int) -> Terms:
    return {"mbytes": _size(layer.out_shape, vector_width) * _BYTES * _MEGA, "fixed": 1.0}


def _pool(layer: Layer, vector_width: int) -> Terms:
    return {"mbytes": _size(layer.in_shape, vector_width) * _BYTES * _MEGA}


def _linear(layer: Layer, _vector_width: int) -> Terms:
    return {"weight_mbytes": layer.in_shape[0] * layer.out_shape[0] * _BYTES * _MEGA}


_OTHERS: Mapping[str, Callable[[Layer, int], Terms]] = {
    "star": _elementwise,
    "sum": _elementwise,
    "residual": _elementwise,
    "pool": _pool,
    "linear": _linear,
}


def _size(shape: tuple[int, int, int], vector_width: int) -> int:
    channels, height, width = shape
    return _round_up(channels, vector_width) * height * width


def _round_up(channels: int, multiple: int) -> int:
    return -(-channels // multiple) * multiple
