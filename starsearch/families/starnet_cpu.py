"""The same StarNet, computed faster on a CPU: `FastForward`.

On the small maps of a proxy training the time does not go into arithmetic. oneDNN's backward pass of a depthwise 7×7
convolution of 96 channels on 2×2 maps (batch 128) takes 23 ms of a core where its products take 0.6, and every hidden
map of a block goes to memory and back several times. What is done about it:

- maps of at most 16×16 are kept as (channels, height, width, batch). Then a 1×1 convolution is one matrix product, a
  batch norm is a norm of rows, and a depthwise convolution is a batch of products with banded matrices, in which
  only the taps that meet the map appear (`starsearch.families.small_maps`);
- the branches, their star and the projection of a block go through the cache in pieces;
- a bias in front of a batch norm, which the norm takes away again, is added to the running mean only.

Larger maps, other devices and other types of number take the module's own way.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from starsearch.families import small_maps
from starsearch.families.network import Network

PIECE = 400_000  # numbers of one hidden map in work at once: with its fellows about the size of two cores' L2 caches


class FastForward:
    """`model`'s forward pass, in a form that trains several times as fast on a CPU.

    Equal to `model(images)` up to rounding, in training and evaluation, gradients and running statistics
    included; only the gradient of a bias in front of a batch norm, zero but for rounding, is None. The model
    itself is not touched, and owns all state.

    Args:
        model: whose parameters and buffers are read (and whose running statistics are updated).
    """

    def __init__(self, model: Network) -> None:
        self.model = model

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """(batch, channels, height, width) to logits (batch, classes)."""
        model: Any = self.model
        if not self._serves(images):
            plain: torch.Tensor = model(images)
            return plain
        x, inside = model.stem(images), False  # oneDNN's stem is as fast as ours
        for stage in model.stages:
            assert isinstance(stage, nn.Sequential)
            if inside:
                x = _norm(small_maps.convolve3x3(x, _conv(stage[0]).weight, stride=2), stage[0])
            else:
                x = stage[0](x)
                inside = small_maps.fits(height=x.shape[2], width=x.shape[3])
                x = x.permute(1, 2, 3, 0).contiguous() if inside else x
            for block in stage[1:]:
                x = _block(block, x) if inside else block(x)
        if inside:
            x = x.permute(3, 0, 1, 2)
        logits: torch.Tensor = model.forward_head(model.norm(x))
        return logits

    def _serves(self, images: torch.Tensor) -> bool:
        return (
            images.device.type == "cpu"
            and images.dtype in (torch.float32, torch.float64)
            and not torch.is_autocast_enabled("cpu")
            and not self.model.grad_checkpointing
        )


def _block(block: Any, x: torch.Tensor) -> torch.Tensor:
    """`block` on (channels, height, width, batch)."""
    y = _norm(small_maps.depthwise(x, _conv(block.dwconv).weight), block.dwconv)
    y = _norm(_mix(block, y), block.g)
    last = _conv(block.dwconv2)
    y = small_maps.depthwise(y, last.weight).add_(_bias(last).view(-1, 1, 1, 1))
    if block.training and not isinstance(block.drop_path, nn.Identity):
        y = block.drop_path(y.permute(3, 0, 1, 2)).permute(1, 2, 3, 0)  # timm's drops along the first dimension
    return x + y


def _norm(x: torch.Tensor, layer: nn.Module) -> torch.Tensor:
    """The bias of `layer.conv`, which has not been added to x (channels, …), and `layer.bn`."""
    bias, norm = _bias(_conv(layer)), layer.bn
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    assert norm.momentum is not None
    channels, size = x.shape[0], x[0].numel()
    if not norm.training:
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        shift = norm.bias + (bias - norm.running_mean) * scale
        return torch.addcmul(shift[:, None], x.view(channels, -1), scale[:, None]).view_as(x)
    # A batch norm of rows is a group norm of one image with a group a channel, whose kernel is 2–3 times as fast.
    y, mean, rstd = torch.native_group_norm(
        x.view(1, channels, -1), norm.weight, norm.bias, 1, channels, size, channels, norm.eps
    )
    with torch.no_grad():
        unbiased = (rstd[0].pow(-2) - norm.eps).mul_(size / max(size - 1, 1))
        norm.running_mean.lerp_(mean[0] + bias, norm.momentum)
        norm.running_var.lerp_(unbiased, norm.momentum)
        norm.num_batches_tracked.add_(1)
    return y.view_as(x)


def _mix(block: Any, x: torch.Tensor) -> torch.Tensor:
    """The two branches, their star or sum, and the projection without its bias."""
    f1, f2, g = _conv(block.f1), _conv(block.f2), _conv(block.g)
    weights = (f1.weight.flatten(1), _bias(f1), f2.weight.flatten(1), _bias(f2), g.weight.flatten(1))
    mixed: torch.Tensor = _Mix.apply(block, x.view(x.shape[0], -1), *weights)
    return mixed.view(x.shape)


def _conv(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer.conv, nn.Conv2d)
    return layer.conv


def _bias(conv: nn.Conv2d) -> torch.Tensor:
    assert conv.bias is not None
    return conv.bias


class _Mix(torch.autograd.Function):
    """g · combine(f1 · x + b1, f2 · x + b2) over columns, a piece at a time, so that hidden maps stay in the cache."""

    @staticmethod
    def forward(ctx: Any, block: Any, x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        """X (channels, columns), f1 and f2 (hidden, channels), g (channels, hidden)."""
        f1, bias1, f2, bias2, g = weights
        hidden, columns = f1.shape[0], x.shape[1]
        x1, x2 = x.new_empty(hidden, columns), x.new_empty(hidden, columns)
        out = x.new_empty(g.shape[0], columns)
        for piece in _pieces(hidden, columns):
            torch.mm(f1, x[:, piece], out=x1[:, piece])
            torch.mm(f2, x[:, piece], out=x2[:, piece])
            y = block.combine(x1[:, piece].add_(bias1[:, None]), x2[:, piece].add_(bias2[:, None]))
            torch.mm(g, y, out=out[:, piece])
        ctx.save_for_backward(x, f1, f2, g, x1, x2)
        ctx.block = block
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and the weights; the block's own `combine` is differentiated, whatever it is."""
        x, f1, f2, g, x1, x2 = ctx.saved_tensors
        dx, df1, df2, dg = torch.empty_like(x), torch.zeros_like(f1), torch.zeros_like(f2), torch.zeros_like(g)
        dbias1, dbias2 = f1.new_zeros(f1.shape[0]), f2.new_zeros(f2.shape[0])
        for piece in _pieces(f1.shape[0], x.shape[1]):
            a, b = (branch[:, piece].requires_grad_() for branch in (x1, x2))
            with torch.enable_grad():
                y = ctx.block.combine(a, b)
            dg.addmm_(grad[:, piece], y.detach().t())
            da, db = torch.autograd.grad(y, (a, b), g.t() @ grad[:, piece])
            df1.addmm_(da, x[:, piece].t())
            df2.addmm_(db, x[:, piece].t())
            dbias1.add_(da.sum(1))
            dbias2.add_(db.sum(1))
            torch.mm(f1.t(), da, out=dx[:, piece]).addmm_(f2.t(), db)
        return None, dx, df1, dbias1, df2, dbias2, dg


def _pieces(rows: int, columns: int) -> list[slice]:
    """Slices of about `PIECE` numbers each that cover `columns`."""
    count = max(1, round(rows * columns / PIECE))
    width = -(-columns // count)
    return [slice(start, min(start + width, columns)) for start in range(0, columns, width)]
