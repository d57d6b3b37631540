"""Trained weights as the beginning of another network of the family: layers kept, sliced, repeated, or new.

Fewer channels are the first ones, a smaller kernel is the centre, and fewer blocks are the first ones, as in
once-for-all networks (Cai et al. 2020, section 3). More channels are copies that share the weights behind the original,
and further blocks begin as the identity (Net2Net, Chen et al. 2016): a StarNet's logits stay the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import prod

import torch

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, find_family, lower
from starsearch.families.layers import INPUT, Layer, weight_shapes

Shape = tuple[int, ...]
State = Mapping[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerStart:
    """How one layer begins.

    Attributes:
        layers: the layer's name, or in a summary those of several.
        there, here: shape of its main weights in the trained network (None where it has none) and in this one.
        how: "kept", "new", or what was done: "sliced", "repeated", "padded" (a kernel), also several of them.
    """

    layers: str
    there: Shape | None
    here: Shape
    how: str


def compare(architecture: Architecture, state: State, *, num_classes: int) -> list[LayerStart]:
    """Return how each layer of a network begins with these weights.

    Raises:
        EvaluationError: they are of another family, or damaged.
    """
    layers = lower(architecture, num_classes=num_classes)
    _check_family(architecture, state, layers)
    stem = state.get(f"{layers[0].name}.conv.weight")
    channels: dict[str, int | None] = {INPUT: None if stem is None else stem.shape[1]}  # of maps in the trained network
    found = []
    for layer in layers:
        shapes, entering = weight_shapes(layer), channels[layer.inputs[0]]
        channels[layer.name] = entering
        if not shapes:
            if len({channels[name] for name in layer.inputs} - {None}) > 1:
                raise _damaged(f"the inputs of {layer.name} have different numbers of channels")
            continue
        there = {key: tuple(state[key].shape) for key in shapes if key in state}
        if there and len(there) < len(shapes):
            raise _damaged(f"{next(key for key in shapes if key not in there)} is missing")
        main, here = next(iter(shapes.items()))
        how = _how(layer, there, shapes, entering)
        channels[layer.name] = there[main][0] if how != "new" else entering if layer.is_depthwise else None
        found.append(LayerStart(layers=layer.name, there=there.get(main), here=here, how=how))
    return found


def _check_family(architecture: Architecture, state: State, layers: Iterable[Layer]) -> None:
    every = lower(find_family(architecture.family).of())
    known = {_form(key) for layer in (*every, *layers) for key in weight_shapes(layer)}
    foreign = [key for key in state if _form(key) not in known and not key.endswith(".num_batches_tracked")]
    if foreign or known.isdisjoint(map(_form, state)):
        which = f"{foreign[0]!r} is no part of one" if foreign else "no tensor in them is part of one"
        raise EvaluationError(
            f"The weights to begin with are of no {architecture.title}: {which}. Name those of a network of the family."
        )
    if wrong := next((key for key in state if not bool(torch.isfinite(state[key]).all())), None):
        raise _damaged(f"{wrong} holds numbers that are not finite")


def _form(key: str) -> str:
    return re.sub(r"(?<=\.)\d+(?=\.)", "#", key)


def _how(layer: Layer, there: Mapping[str, Shape], here: Mapping[str, Shape], entering: int | None) -> str:
    """How a layer begins with the tensors of these shapes; `entering` channels come to it in the trained network."""
    main = next(iter(here))
    if not there:
        return "new"
    if any(len(there[key]) != len(shape) for key, shape in here.items()):
        raise _damaged(f"{main} has {len(there[main])} dimensions, not {len(here[main])}")
    reads = there[main][1] if len(here[main]) > 1 and layer.groups == 1 else there[main][0]
    of_blocks = any(part.isdigit() for part in layer.name.split("."))
    if entering != reads or any(shape[0] != there[main][0] for shape in there.values()):
        # Behind the last stage, which is another where there are more stages or fewer.
        if not of_blocks:
            return "new"
        if entering is not None:
            raise _damaged(f"the tensors of {layer.name} do not fit each other or the {entering} channels before them")
    if layer.op == "linear" and there[main][0] != here[main][0]:
        return "new"  # other classes
    sizes = list(zip(there[main], here[main], strict=True))
    done = ["sliced"] * any(old > new for old, new in sizes)
    done += ["repeated"] * any(old < new for old, new in sizes[:2])
    done += ["padded"] * any(old < new for old, new in sizes[2:])
    return ", ".join(done) or "kept"


def _damaged(what: str) -> EvaluationError:
    return EvaluationError(
        f"The weights to begin with are damaged, or pruned to something that is no network of the family: {what}."
    )


def transfer(architecture: Architecture, state: State, ours: State, *, num_classes: int) -> dict[str, torch.Tensor]:
    """Return a state dict for the network, with the entries of `ours` where it has something new.

    How copied channels share the weights behind them is drawn from torch's global random state, so that the copies
    learn different things.
    """
    starts = {one.layers: one for one in compare(architecture, state, num_classes=num_classes)}
    found = dict(ours)
    for layer in lower(architecture, num_classes=num_classes):
        if layer.name not in starts or starts[layer.name].how == "new":
            continue
        for key, shape in weight_shapes(layer).items():
            found[key] = _fit(state[key], shape).to(ours[key].dtype)
    return found


def _fit(old: torch.Tensor, shape: Shape) -> torch.Tensor:
    """A tensor in a shape: outputs sliced or repeated, inputs sliced or shared among copies, kernels centred."""
    new = old[torch.arange(shape[0]) % old.shape[0]]
    if len(shape) > 1:
        index = torch.arange(shape[1]) % old.shape[1]
        new = new[:, index]
        if shape[1] > old.shape[1]:
            shares = torch.rand(shape[:2]) + 0.5
            totals = torch.zeros(shape[0], old.shape[1]).index_add_(1, index, shares)
            new = new * (shares / totals[:, index]).view(*shape[:2], *(1,) * (len(shape) - 2))
    margins = [(size - had) // 2 for size, had in zip(shape[:1:-1], old.shape[:1:-1], strict=True)]
    # Negative margins cut.
    return torch.nn.functional.pad(new, [margin for margin in margins for _ in range(2)]) if any(margins) else new


def summarize(starts: Sequence[LayerStart]) -> list[LayerStart]:
    """Return the starts with the layers of a stage that begin alike as one, which has its largest layer's shapes."""
    places = {one.layers: _place(one.layers) for one in starts}
    groups: dict[tuple[str, str], list[LayerStart]] = {}
    for one in starts:
        groups.setdefault((places[one.layers][0], one.how), []).append(one)
    found = []
    for (prefix, _), group in groups.items():
        own = [places[one.layers] for one in group]
        numbers, parts = {number for _, number, _ in own}, dict.fromkeys(part for _, _, part in own)
        low, high = min(numbers), max(numbers)
        label = prefix if high < 0 else f"{prefix}.{low}" if low == high else f"{prefix}.{low}–{high}"
        if set(parts) != {part for at, number, part in places.values() if at == prefix and number in numbers}:
            label += f" ({', '.join(parts)})"
        found.append(replace(max(group, key=lambda one: prod(one.here)), layers=label))
    return found


def _place(layer: str) -> tuple[str, int, str]:
    """Split "stages.2.5.f1" into stage, block and part; others are of no stage."""
    found = re.fullmatch(r"(.+)\.(\d+)(?:\.(\w+))?", layer)
    return (found[1], int(found[2]), found[3] or "conv") if found else (layer, -1, "")
