"""The same StarNet, computed faster on a CPU: `fast_forward`.

On the small maps of a proxy training the time does not go into arithmetic. oneDNN's backward pass of a depthwise 7×7
convolution of 96 channels on 2×2 maps (batch 128) takes 23 ms of a core where its products take 0.6, and every hidden
map of a block goes to memory and back several times. What is done about it:

- maps of at most 16×16 are kept as (channels, height, width, batch). Then a 1×1 convolution is one matrix product, a
  batch norm is a norm of rows, and a depthwise convolution is a batch of products with banded matrices, in which
  only the taps that meet the map appear;
- the branches, their star and the projection of a block go through the cache in pieces;
- a bias in front of a batch norm, which the norm takes away again, is added to the running mean only.

Larger maps, blocks of one branch, other devices and other types of number take the module's own way.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import nn
from torch.autograd.function import once_differentiable

from starsearch.families.network import combine

MAX_SIDE = 16  # of a map; beyond, the banded matrices hold so many zeros that oneDNN is faster
ONE_TILE = 64  # positions up to which all rows of a map are computed in one product
TILE_ROWS = 2  # rows computed in one product on larger maps: 16×16 needs 112 products an output; 1 row 94, 4 rows 136
PIECE = 400_000  # numbers of one hidden map in work at once: with its fellows about the size of two cores' L2 caches


def fast_forward(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Return logits (batch, classes) of (batch, channels, height, width), several times as fast in training on a CPU.

    Equal to `model(images)` up to rounding, in training and evaluation, gradients and running statistics
    included; only the gradient of a bias in front of a batch norm, zero but for rounding, is None. The model
    itself is not touched, and owns all state.
    """
    logits: torch.Tensor
    is_served = images.device.type == "cpu" and images.dtype in (torch.float32, torch.float64)
    if not is_served or torch.is_autocast_enabled("cpu") or model.grad_checkpointing:
        logits = model(images)
        return logits
    x, inside = model.stem(images), False
    for stage in model.stages:
        # oneDNN's dense 3×3 convolution is as fast as products with gathered inputs, its layout's change included.
        x = stage[0](_as_images(x) if inside else x)
        inside = max(x.shape[2:]) <= MAX_SIDE and all(block.branches == "both" for block in stage[1:])
        x = x.permute(1, 2, 3, 0).contiguous() if inside else x
        for block in stage[1:]:
            x = _block(block, x) if inside else block(x)
    logits = model.forward_head(model.norm(_as_images(x) if inside else x))
    return logits


def _as_images(x: torch.Tensor) -> torch.Tensor:
    return x.permute(3, 0, 1, 2).contiguous(memory_format=torch.channels_last)


def _block(block: Any, x: torch.Tensor) -> torch.Tensor:
    """`block` on (channels, height, width, batch)."""
    y = _norm(depthwise(x, block.dwconv.conv.weight), block.dwconv)
    y = _norm(_mix(block, y), block.g)
    y = depthwise(y, block.dwconv2.conv.weight).add_(block.dwconv2.conv.bias.view(-1, 1, 1, 1))
    if block.training and not isinstance(block.drop_path, nn.Identity):
        y = block.drop_path(y.permute(3, 0, 1, 2)).permute(1, 2, 3, 0)  # timm's drops along the first dimension
    return x + y


def _norm(x: torch.Tensor, layer: Any) -> torch.Tensor:
    """The bias of `layer.conv`, which has not been added to x (channels, …), and `layer.bn`."""
    bias, norm = layer.conv.bias, layer.bn
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
    f1, f2, g = block.f1.conv, block.f2.conv, block.g.conv
    weights = (f1.weight.flatten(1), f1.bias, f2.weight.flatten(1), f2.bias, g.weight.flatten(1))
    mixed: torch.Tensor = _Mix.apply(block, x.view(x.shape[0], -1), *weights)
    return mixed.view(x.shape)


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
            y = combine(block, x1[:, piece].add_(bias1[:, None]), x2[:, piece].add_(bias2[:, None]))
            torch.mm(g, y, out=out[:, piece])
        ctx.save_for_backward(x, f1, f2, g, x1, x2)
        ctx.block = block
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and the weights; what joins the branches is differentiated, whatever it is."""
        x, f1, f2, g, x1, x2 = ctx.saved_tensors
        dx, df1, df2, dg = torch.empty_like(x), torch.zeros_like(f1), torch.zeros_like(f2), torch.zeros_like(g)
        dbias1, dbias2 = f1.new_zeros(f1.shape[0]), f2.new_zeros(f2.shape[0])
        for piece in _pieces(f1.shape[0], x.shape[1]):
            a, b = (branch[:, piece].requires_grad_() for branch in (x1, x2))
            with torch.enable_grad():
                y = combine(ctx.block, a, b)
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


def depthwise(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """x (channels, height, width, batch) convolved with weight (channels, 1, k, k), stride 1, padded to its size.

    On a map of n×n only the central (2n - 1)² taps are used: one on a 1×1 map.
    """
    channels, height, width, batch = x.shape
    kernel_size = weight.shape[-1]
    rows = height if height * width <= ONE_TILE else TILE_ROWS
    margin = 0 if rows == height else kernel_size // 2  # rows of input above and below a tile's
    spread = _spread(rows, margin, width, kernel_size).to(x.dtype)
    band = (weight.flatten(1) @ spread).view(channels, rows * width, (rows + 2 * margin) * width)
    if height * width == 1:
        return x * band.view(channels, 1, 1, 1)
    if rows == height:
        return torch.bmm(band, x.view(channels, -1, batch)).view_as(x)
    out: torch.Tensor = _TiledProduct.apply(x, band, rows, margin)
    return out


@lru_cache(maxsize=64)
@torch.inference_mode(False)  # kept for trainings, even if a validation asks first
def _spread(rows: int, margin: int, width: int, kernel_size: int) -> torch.Tensor:
    """(k², outputs · inputs) of 0 and 1: which tap leads from which input to which output.

    Outputs are the positions of a tile of `rows` rows, inputs those of the tile and `margin` rows above and below it.
    """
    half = kernel_size // 2
    out_row, out_column = torch.arange(rows).view(-1, 1, 1, 1), torch.arange(width).view(1, -1, 1, 1)
    in_row = torch.arange(-margin, rows + margin).view(1, 1, -1, 1)
    in_column = torch.arange(width).view(1, 1, 1, -1)
    tap_row, tap_column = in_row - out_row + half, in_column - out_column + half
    meets = (tap_row >= 0) & (tap_row < kernel_size) & (tap_column >= 0) & (tap_column < kernel_size)
    tap = torch.where(meets, tap_row * kernel_size + tap_column, kernel_size**2).flatten()
    return torch.nn.functional.one_hot(tap, kernel_size**2 + 1)[:, :-1].t().float().contiguous()


class _TiledProduct(torch.autograd.Function):
    """A banded product, tile by tile: in this layout the rows a tile reads lie together in memory."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, band: torch.Tensor, rows: int, margin: int) -> torch.Tensor:
        """X (channels, height, width, batch), band (channels, rows · width, (rows + 2 margin) · width)."""
        ctx.save_for_backward(x, band)
        ctx.rows, ctx.margin = rows, margin
        out = torch.empty_like(x)
        for outputs, inputs, part in _tiles(x, out, band, rows, margin):
            torch.bmm(part.contiguous(), inputs, out=outputs)  # a strided part would be multiplied matrix by matrix
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and band."""
        x, band = ctx.saved_tensors
        grad = grad.contiguous()
        dx, dband = torch.zeros_like(x), torch.zeros_like(band)
        for g, inputs, dpart in _tiles(x, grad, dband, ctx.rows, ctx.margin):
            dpart.add_(torch.bmm(g, inputs.mT))
        for g, dinputs, part in _tiles(dx, grad, band, ctx.rows, ctx.margin):
            dinputs.add_(torch.bmm(part.contiguous().mT, g))
        return dx, dband, None, None


def _tiles(
    x: torch.Tensor, out: torch.Tensor, band: torch.Tensor, rows: int, margin: int
) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """For every tile views of its outputs, of the inputs it reads, and of the part of `band` between them."""
    height, width = x.shape[1:3]
    x, out = x.flatten(1, 2), out.flatten(1, 2)
    tiles = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(0, top - margin), min(height, bottom + margin)
        skipped = first - (top - margin)  # rows of the band that lie above the map
        part = band[:, : (bottom - top) * width, skipped * width : (skipped + last - first) * width]
        tiles.append((out[:, top * width : bottom * width], x[:, first * width : last * width], part))
    return tiles
