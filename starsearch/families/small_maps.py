"""Convolutions of small maps in the layout (channels, height, width, batch), as matrix products."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import torch
from torch.autograd.function import once_differentiable

MAX_SIDE = 16  # beyond, the banded matrices hold so many zeros that oneDNN is faster
ONE_TILE = 64  # positions up to which all rows of a map are computed in one product
GATHERED = 400_000  # numbers gathered for one product of a 3×3 convolution: about an L2 cache
TILE_ROWS = 2  # rows computed in one product on larger maps: 16×16 needs 112 products an output; 1 row 94, 4 rows 136


def fits(*, height: int, width: int) -> bool:
    """Whether maps of this size are computed faster here than by oneDNN."""
    return height <= MAX_SIDE and width <= MAX_SIDE


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


def convolve3x3(x: torch.Tensor, weight: torch.Tensor, *, stride: int) -> torch.Tensor:
    """x (channels, height, width, batch) convolved with weight (out, channels, 3, 3), padding 1."""
    out: torch.Tensor = _Convolution3x3.apply(x, weight, stride)
    return out


class _Convolution3x3(torch.autograd.Function):
    """A 3×3 convolution as products with gathered inputs, some rows at a time so that these stay in the cache.

    Taps that only meet padding are cut: four of nine remain where a 2×2 map is halved.
    """

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, stride: int) -> torch.Tensor:
        """X (channels, height, width, batch), weight (out, channels, 3, 3)."""
        gather = _Gather(x.shape, stride)
        used = gather.used_weight(weight)
        out = x.new_empty(weight.shape[0], *gather.out_size, x.shape[3])
        for rows in gather.pieces():
            torch.mm(used, gather(x, rows), out=out[:, rows].flatten(1))
        ctx.save_for_backward(x, weight)
        ctx.gather = gather
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """The gradients of x and weight."""
        x, weight = ctx.saved_tensors
        gather: _Gather = ctx.gather
        grad = grad.contiguous()
        used = gather.used_weight(weight)
        dused = torch.zeros_like(used)
        dx = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        for rows in gather.pieces():
            part = grad[:, rows].flatten(1)
            dused.addmm_(part, gather(x, rows).t())
            if dx is not None:
                gather.scatter(used.t() @ part, dx, rows)
        return dx, gather.spread_weight(dused, weight), None


class _Gather:
    """Where the taps of a 3×3 convolution with padding 1 find their inputs."""

    def __init__(self, x_shape: torch.Size, stride: int) -> None:
        self._channels, height, width, self._batch = x_shape
        self._stride, self._height = stride, height
        self.out_size = (-(-height // stride), -(-width // stride))
        # A tap counts if it meets the map from any output; those that do are neighbours.
        self._row_taps = [tap for tap in range(3) if _meet(tap, slice(0, self.out_size[0]), height, stride)]
        self._column_taps = {tap: _meet(tap, slice(0, self.out_size[1]), width, stride) for tap in range(3)}
        self._column_taps = {tap: met for tap, met in self._column_taps.items() if met}

    def pieces(self) -> list[slice]:
        """Rows of output whose gathered inputs are about `GATHERED` numbers."""
        taps = len(self._row_taps) * len(self._column_taps)
        height = max(1, GATHERED // (taps * self._channels * self.out_size[1] * self._batch))
        return [slice(top, min(top + height, self.out_size[0])) for top in range(0, self.out_size[0], height)]

    def __call__(self, x: torch.Tensor, rows: slice) -> torch.Tensor:
        """(taps · channels, positions · batch): what each tap meets from the outputs of these rows; 0 is padding."""
        gathered = x.new_zeros(self._shape(rows))
        for outputs, inputs in self._views(gathered, x, rows):
            outputs.copy_(inputs)
        return gathered.flatten(3).flatten(0, 2)

    def scatter(self, dgathered: torch.Tensor, dx: torch.Tensor, rows: slice) -> None:
        """Add the gradient of what was gathered to `dx`, the gradient of x."""
        for outputs, inputs in self._views(dgathered.view(self._shape(rows)), dx, rows):
            inputs.add_(outputs)

    def used_weight(self, weight: torch.Tensor) -> torch.Tensor:
        """(out, taps · channels), of weight (out, channels, 3, 3)."""
        return weight[:, :, self._rows, self._columns].permute(0, 2, 3, 1).flatten(1)

    def spread_weight(self, used: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """`used_weight` the other way round, for gradients: as `weight`, 0 where a tap is not used."""
        spread = torch.zeros_like(weight)
        part = spread[:, :, self._rows, self._columns].permute(0, 2, 3, 1)
        part.copy_(used.view(part.shape))
        return spread

    @property
    def _rows(self) -> slice:
        return slice(self._row_taps[0], self._row_taps[-1] + 1)

    @property
    def _columns(self) -> slice:
        return slice(min(self._column_taps), max(self._column_taps) + 1)

    def _shape(self, rows: slice) -> tuple[int, ...]:
        taps = (len(self._row_taps), len(self._column_taps))
        return (*taps, self._channels, rows.stop - rows.start, self.out_size[1], self._batch)

    def _views(
        self, gathered: torch.Tensor, x: torch.Tensor, rows: slice
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """For every tap its outputs in `gathered` and its inputs in `x`, as views."""
        for i, row_tap in enumerate(self._row_taps):
            met = _meet(row_tap, rows, self._height, self._stride)
            if not met:
                continue
            out_rows, in_rows = met
            for j, column_met in enumerate(self._column_taps.values()):
                assert column_met is not None
                out_columns, in_columns = column_met
                yield gathered[i, j, :, out_rows, out_columns], x[:, in_rows, in_columns]


def _meet(tap: int, outputs: slice, size: int, stride: int) -> tuple[slice, slice] | None:
    """Which of `outputs` (counted from their first) a tap leads into a map of `size` inputs, and to which of those.

    None where it leads all of them into the padding.
    """
    inputs = range(outputs.start * stride + tap - 1, (outputs.stop - 1) * stride + tap, stride)
    first = sum(position < 0 for position in inputs)
    last = sum(position < size for position in inputs)
    if first >= last:
        return None
    return slice(first, last), slice(inputs[first], inputs[last - 1] + 1, stride)
