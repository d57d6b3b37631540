"""Signals: what an untrained network tells of its accuracy. A signal is a function and a row of `SIGNALS`.

A function may change the network it is given, which is new; what a star required is the last sentence of its docstring.
No search uses a signal: `starsearch.accuracy.audit` says what each is worth.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from starsearch.data import DataSet
from starsearch.data.augmentation import normalize
from starsearch.data.dataset import choose_balanced
from starsearch.data.memory import decode
from starsearch.errors import SpecError, did_you_mean
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.layers import ACTIVATION_FUNCTIONS
from starsearch.families.network import Network, build_model
from starsearch.families.text import format_architecture
from starsearch.progress import Progress, follow
from starsearch.resolution import Resolution, sides

_BATCHES, _BATCH = 2, 32  # SWAP packs a code of base 3 for each image of a batch into 64 bits: at most 39
_ZEN_STEP = 0.01
_MECO_CHANNELS = 8
_ACTIVATIONS = tuple(getattr(nn, one.torch) for one in ACTIVATION_FUNCTIONS.values())
_WEIGHTED = (nn.Conv2d, nn.Linear)
AZ_NAS = ("az_expressivity", "az_progressivity", "az_trainability", "macs")
"""The signals that AZ-NAS combines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalBatches:
    """Images (batches, batch, 3, height, width) and targets (batches, batch); but for ZiCo, only the first is used."""

    images: torch.Tensor
    targets: torch.Tensor
    num_classes: int = 1000


Signal = Callable[[Network, SignalBatches], float]


def make_batches(data: DataSet | None = None, *, resolution: Resolution = 64, seed: int = 0) -> SignalBatches:
    """Return two batches of 32 training images, equally many of every class; without data Gaussian noise.

    Raises:
        SpecError: a resolution that is no multiple of 32.
    """
    if any(side % 32 for side in sides(resolution)):
        raise SpecError(f"Signals are read from images of a multiple of 32 pixels; got {resolution}.")
    count = _BATCHES * _BATCH
    generator = torch.Generator().manual_seed(seed)
    if data is None:
        images = torch.randn(count, 3, *sides(resolution), generator=generator)
        targets, num_classes = torch.randint(1000, (count,), generator=generator), 1000
    else:
        chosen = choose_balanced(data.train.targets, count, seed=seed)
        decoded = follow(decode(data, data.train, chosen, resolution=resolution))
        order = torch.randperm(len(decoded), generator=generator)
        mean, std = (255 * torch.tensor(values) for values in (data.mean, data.std))
        images, targets = normalize(decoded.pixels[order], mean, std).contiguous(), decoded.targets[order]
        num_classes = len(data.classes)
    batch = len(images) // _BATCHES
    return SignalBatches(
        images=torch.stack(torch.split(images, batch)[:_BATCHES]),
        targets=torch.stack(torch.split(targets, batch)[:_BATCHES]),
        num_classes=num_classes,
    )


def read_signals(
    architectures: Sequence[Architecture], batches: SignalBatches, *, names: Iterable[str] = (), seed: int = 0
) -> Generator[Progress, None, pd.DataFrame]:
    """Yield progress; return the signals of untrained networks.

    Args:
        names: of `SIGNALS`; without any, all.
        seed: of the networks' weights, and of what a signal draws.

    Returns:
        A row for each network, a column for each signal, NaN where there is none, as where numbers overflow.
        `attrs["seconds"]` has the processor's seconds a network.

    Raises:
        SpecError: an unknown signal.
    """
    asked = list(dict.fromkeys(names)) or list(SIGNALS)
    for name in asked:
        if name not in SIGNALS:
            raise SpecError(f"Unknown signal {name!r}.{did_you_mean(name, SIGNALS)} Known: {', '.join(SIGNALS)}.")
    values = {name: np.full(len(architectures), math.nan) for name in asked}
    seconds = dict.fromkeys(asked, 0.0)
    for index, architecture in enumerate(architectures):
        yield Progress(fraction=index / len(architectures), stage=format_architecture(architecture))
        for name in asked:
            torch.manual_seed(seed)
            network = build_model(architecture, num_classes=batches.num_classes).train()
            begun = time.process_time()
            with suppress(torch.linalg.LinAlgError):  # type: ignore[attr-defined] # documented
                values[name][index] = SIGNALS[name](network, batches)
            seconds[name] += (time.process_time() - begun) / len(architectures)
    found = pd.DataFrame(values).replace([math.inf, -math.inf], math.nan)
    found.attrs["seconds"] = seconds
    return found


def az_nas(signals: pd.DataFrame) -> pd.Series[float]:
    """Return Σ log(rank / n) of each network over `AZ_NAS`, ranks among these networks (Lee & Ham, CVPR 2024)."""
    return signals[list(AZ_NAS)].rank(pct=True).map(math.log).sum(axis=1, skipna=False)


def num_params(network: Network, _: SignalBatches) -> float:
    """Return the number of parameters with 1000 classes: what every other signal has to beat."""
    return count_params(network.architecture)


def macs(network: Network, _: SignalBatches) -> float:
    """Return the multiply-adds at 224 px with 1000 classes."""
    return count_macs(network.architecture)


def nwot(network: nn.Module, batches: SignalBatches) -> float:
    """Return log|K|: K counts of each two images the activations in the same state (Mellor et al., ICML 2021).

    ReLU6 has three states, the third above 6; any other function two. The star itself has none: a network without
    activations is told by its stem's alone.
    """
    images = batches.images[0]
    kernel = torch.zeros(len(images), len(images), dtype=torch.float64)
    for codes in _activation_codes(network, images):
        for state in range(3):
            in_state = (codes == state).float()
            kernel += (in_state @ in_state.T).double()
    return float(torch.linalg.slogdet(kernel).logabsdet)


def swap(network: nn.Module, batches: SignalBatches) -> float:
    """Return how many different patterns over the images activations have (Peng et al., ICLR 2024).

    The states are those of `nwot`, so that ReLU6 is seen, which the authors' code passes over.
    """
    images = batches.images[0]
    base = 3 ** torch.arange(len(images)).unsqueeze(1)
    patterns = [torch.unique((codes * base).sum(dim=0)) for codes in _activation_codes(network, images)]
    return len(torch.unique(torch.cat(patterns)))


def snip(network: nn.Module, batches: SignalBatches) -> float:
    """Return Σ |w ∂L/∂w| over the weights (Lee et al., ICLR 2019; summed by Abdelfattah et al., ICLR 2021).

    Nothing had to change.
    """
    gradients = _gradients(network, batches.images[0], batches.targets[0])
    return sum(float((w.detach() * g).abs().sum()) for w, g in zip(_weights(network), gradients, strict=True))


def grad_norm(network: nn.Module, batches: SignalBatches) -> float:
    """Return the sum of the norms of the layers' weight gradients (Abdelfattah et al., ICLR 2021).

    Nothing had to change.
    """
    return sum(float(g.norm()) for g in _gradients(network, batches.images[0], batches.targets[0]))


def log_synflow(network: nn.Module, batches: SignalBatches) -> float:
    """Return log Σ w ∂R/∂w, R the outputs' sum for ones and weights |w|, no biases (Tanaka et al., NeurIPS 2020).

    Norms and activations pass on what comes, since all is positive. A star squares the scale, which overflows after a
    dozen blocks and conserves no flow; here it is the geometric mean √(x₁x₂), of degree one as a sum is.
    """
    network = network.double().eval()
    for parameter in network.parameters():
        parameter.data.abs_()
    for layer in _modules(network, *_WEIGHTED):
        if layer.bias is not None:
            layer.bias.data.zero_()
    for module in _modules(network, *_ACTIVATIONS, nn.BatchNorm2d, nn.LayerNorm):
        module.register_forward_hook(lambda _module, given, _output: given[0])
    with _GeometricStars():
        flow = network(torch.ones_like(batches.images[0, :1], dtype=torch.float64)).sum()
        gradients = torch.autograd.grad(flow, _weights(network))
    total = torch.stack([(w.detach() * g).sum() for w, g in zip(_weights(network), gradients, strict=True)]).sum()
    return float(total.log())


def zico(network: nn.Module, batches: SignalBatches) -> float:
    """Return Σ over layers of log Σ over weights of mean / deviation of |∂L/∂w| (Li et al., ICLR 2023).

    Mean and deviation are over batches. Weights whose gradient does not vary are left out. This is the paper's
    equation; its code takes the deviation of ∂L/∂w and lets the batches' gradients add up. Nothing had to change.
    """
    gradients = [_gradients(network, *batch) for batch in zip(batches.images, batches.targets, strict=True)]
    score = 0.0
    for layer in zip(*gradients, strict=True):
        sizes = torch.stack(layer).abs().double()
        spread = sizes.std(dim=0, correction=0)
        varies = spread > 0
        if varies.any():
            score += float((sizes.mean(dim=0)[varies] / spread[varies]).sum().log())
    return score


@torch.no_grad()
def zen(network: nn.Module, batches: SignalBatches) -> float:
    """Return log E‖f(x) − f(x + 0.01 ε)‖ + Σ log σ of the batch norms (Lin et al., ICCV 2021, algorithm 1).

    f: weights from N(0, 1), no skip connections, up to the last block. The norm in front of a star counts twice: the
    paper takes what follows to be linear in its scale, and a star is quadratic. One draw, where the authors average 32.
    """
    _initialize(network, nn.init.normal_)
    for block in _blocks(network):
        block.register_forward_hook(lambda _block, given, output: output - given[0])
    features = _keep_outputs(_blocks(network)[-1:])
    squared = {getattr(block.dwconv, "bn", None) for block in _blocks(network) if block.op == "star"}
    logs: list[float] = []

    def note(norm: nn.Module, given: tuple[torch.Tensor]) -> None:
        if not features:  # neither behind the last block nor at x + ε
            scale = given[0].var(dim=(0, 2, 3), correction=0).mean().sqrt().log()
            logs.append(float(scale) * (2 if norm in squared else 1))

    for norm in _modules(network, nn.BatchNorm2d):
        norm.register_forward_pre_hook(note)
    images = batches.images[0]
    network(images)
    network(images + _ZEN_STEP * torch.randn_like(images))
    return float((features[0] - features[1]).flatten(1).norm(dim=1).mean().log()) + sum(logs)


def az_expressivity(network: nn.Module, batches: SignalBatches) -> float:
    """Return the sum of `_entropies` (Lee & Ham, "AZ-NAS", CVPR 2024). Nothing had to change."""
    return sum(_entropies(network, batches.images[0]))


def az_progressivity(network: nn.Module, batches: SignalBatches) -> float:
    """Return by how much `_entropies` grow from block to block, the least (AZ-NAS). Nothing had to change."""
    entropies = _entropies(network, batches.images[0])
    return min((after - before for before, after in itertools.pairwise(entropies)), default=math.nan)


def az_trainability(network: nn.Module, batches: SignalBatches) -> float:
    """Return the blocks' mean of 2 − s − 1/s, s the largest singular value of the Jacobian (AZ-NAS).

    The Jacobian is estimated from signs sent back. A star's depends on its input: it is that at the images.
    """
    _initialize(network, _kaiming)
    features = _keep_outputs([network.get_submodule("stem"), *_blocks(network)])
    network(batches.images[0])
    scores = []
    for before, after in itertools.pairwise(features):
        sent = torch.randint(2, after.shape).to(after) * 2 - 1
        (back,) = torch.autograd.grad(after, before, sent, retain_graph=True)
        if stride := before.shape[2] // after.shape[2] if before.shape[2] != after.shape[2] else 0:
            back = functional.pixel_unshuffle(back, stride)
        matrix = _by_position(back).T @ _by_position(sent) / len(_by_position(sent))
        largest = float(torch.linalg.svdvals(matrix)[0])
        scores.append(2 - largest - 1 / (largest + 1e-6))
    return sum(scores) / len(scores) if scores else math.nan


@torch.no_grad()
def meco(network: nn.Module, batches: SignalBatches) -> float:
    """Return Σ over convolutions of the least eigenvalue of the channels' correlations (Jiang et al., NeurIPS 2023).

    As the paper's faster form: eight channels, times an eighth of all. Over the positions of a whole batch, not of one
    image, since the last maps of small images have fewer than channels. A star is seen by the projection behind it.
    """
    score = 0.0

    def add(_module: nn.Module, _given: Any, output: torch.Tensor) -> None:
        nonlocal score
        channels = output.shape[1]
        chosen = torch.randperm(channels)[:_MECO_CHANNELS]
        correlations = torch.corrcoef(_by_position(output[:, chosen]).T.double()).nan_to_num()
        score += float(torch.linalg.eigvalsh(correlations.reshape(len(chosen), -1))[0]) * channels / len(chosen)

    for module in _modules(network, nn.Conv2d):
        module.register_forward_hook(add)
    network(batches.images[0])
    return score


SIGNALS: dict[str, Signal] = {
    one.__name__: one
    for one in (
        *(num_params, macs, nwot, snip, grad_norm, log_synflow, zico, zen),
        *(az_expressivity, az_progressivity, az_trainability, meco, swap),
    )
}
"""Each returns of a new network a number that is to be the higher, the better the network will be."""


class _GeometricStars(TorchFunctionMode):
    """Replaces products of two maps of one shape, which is what stars are, by their geometric mean."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call `func`; the square root of its result where it multiplies maps."""
        out = func(*args, **(kwargs or {}))
        is_star = func in (torch.mul, torch.Tensor.mul, torch.Tensor.__mul__) and args[0].shape == args[1].shape
        return out.sqrt() if is_star else out


def _modules(network: nn.Module, *kinds: type[nn.Module]) -> list[Any]:
    return [module for module in network.modules() if isinstance(module, kinds)]


def _blocks(network: nn.Module) -> list[Any]:
    """Return the blocks of any family: what combines two branches."""
    return [module for module in network.modules() if hasattr(module, "op")]


def _weights(network: nn.Module) -> list[torch.Tensor]:
    return [module.weight for module in _modules(network, *_WEIGHTED)]


def _gradients(network: nn.Module, images: torch.Tensor, targets: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Return the cross entropy's gradients of the layers' weights."""
    return torch.autograd.grad(functional.cross_entropy(network(images), targets), _weights(network))


def _initialize(network: nn.Module, draw: Callable[[torch.Tensor], object]) -> None:
    for module in _modules(network, *_WEIGHTED):
        draw(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _kaiming(weight: torch.Tensor) -> None:
    nn.init.kaiming_normal_(weight, mode="fan_in")


def _keep_outputs(modules: Iterable[nn.Module]) -> list[torch.Tensor]:
    """Return a list to which each output of these modules is appended."""
    kept: list[torch.Tensor] = []
    for module in modules:
        module.register_forward_hook(lambda _module, _given, output: kept.append(output))
    return kept


@torch.no_grad()
def _activation_codes(network: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    """Return for each use of an activation its states (images, values): 0 off, 1 on, 2 at ReLU6's upper bound."""
    codes: list[torch.Tensor] = []

    def note(module: nn.Module, given: tuple[torch.Tensor], _output: torch.Tensor) -> None:
        values = given[0].flatten(1)
        states = (values > 0).to(torch.int8)
        codes.append(states + (values >= 6).to(torch.int8) if isinstance(module, nn.ReLU6) else states)

    for module in _modules(network, *_ACTIVATIONS):
        module.register_forward_hook(note)
    network(images)
    return codes


def _by_position(maps: torch.Tensor) -> torch.Tensor:
    """(batch, channels, height, width) to (batch · height · width, channels)."""
    return maps.movedim(1, -1).flatten(0, -2)


@torch.no_grad()
def _entropies(network: nn.Module, images: torch.Tensor) -> list[float]:
    """Return the entropy of the principal components' shares of variance, behind the stem and each block."""
    _initialize(network, _kaiming)
    features = _keep_outputs([network.get_submodule("stem"), *_blocks(network)])
    network(images)
    entropies = []
    for maps in features:
        values = torch.linalg.eigvalsh(torch.cov(_by_position(maps).T, correction=0))
        shares = (values / values.sum()).clamp_min(0)
        entropies.append(float(-(shares * (shares + 1e-8).log()).sum()))
    return entropies
