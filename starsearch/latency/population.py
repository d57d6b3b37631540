"""Many architectures as columns of numbers, so that a million are costed in a second."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from starsearch.architecture import ACT_TYPES, ACTIVATIONS, FIELDS, OPS, Architecture
from starsearch.errors import ArchitectureError

IntArray = NDArray[np.int64]
_MAX_TABLE = 1 << 22  # entries of a lookup table; configurations beyond are sorted instead


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Rows of small integers, deduplicated.

    Attributes:
        configurations: the distinct rows.
        index: (n,), each row's place among them.
    """

    configurations: list[tuple[int, ...]]
    index: IntArray


@dataclass(frozen=True, kw_only=True)
class Population:
    """Networks of equally many stages, as integer columns; (n, s) is networks by stages.

    Attributes:
        depths: (n, s), blocks.
        widths: (n, s), channels.
        hidden: (n, s), channels of a block's branches.
        kernel_size: (n, s).
        ops: (n, s), indices into `OPS`.
        activation: (n, s), indices into `ACTIVATIONS`.
        act_type: (n,), indices into `ACT_TYPES`.
        stem_width: (n,), channels.
    """

    depths: IntArray
    widths: IntArray
    hidden: IntArray
    kernel_size: IntArray
    ops: IntArray
    activation: IntArray
    act_type: IntArray
    stem_width: IntArray

    @classmethod
    def of(cls, architectures: Sequence[Architecture]) -> Population:
        """The architectures as columns.

        Raises:
            ArchitectureError: there is none, or they differ in the number of stages.
        """
        if len({a.num_stages for a in architectures}) != 1:
            raise ArchitectureError("A population has at least one network, all of equally many stages.")
        stages = range(architectures[0].num_stages)
        return cls(
            depths=_columns([a.depths for a in architectures]),
            widths=_columns([a.stage_widths for a in architectures]),
            hidden=_columns([[a.hidden_width(stage) for stage in stages] for a in architectures]),
            kernel_size=_columns([a.kernel_size for a in architectures]),
            ops=_columns([[OPS.index(op) for op in a.ops] for a in architectures]),
            activation=_columns([[ACTIVATIONS.index(place) for place in a.activation] for a in architectures]),
            act_type=_columns([ACT_TYPES.index(a.act_type) for a in architectures]),
            stem_width=_columns([a.stem_width for a in architectures]),
        )

    def __len__(self) -> int:
        return len(self.depths)

    @property
    def num_stages(self) -> int:
        """Of every network."""
        return int(self.depths.shape[1])

    @cached_property
    def _inputs(self) -> IntArray:
        """(n, s), channels that each stage reads."""
        return np.column_stack([self.stem_width, self.widths[:, :-1]])

    def stage_codes(self, stage: int) -> Codes:
        """What distinguishes the networks in one stage, but how many blocks it has."""
        has_blocks = np.minimum(self.depths[:, stage], 1)
        of_block = (self.hidden, self.kernel_size, self.ops, self.activation)
        # What no block has makes no difference.
        columns = [has_blocks * column[:, stage] for column in of_block]
        return _encode([self._inputs[:, stage], self.widths[:, stage], has_blocks, *columns, self.act_type])

    def stage_example(self, stage: int, configuration: tuple[int, ...]) -> Architecture:
        """A network that has this configuration of `stage_codes`: one block there, if any, and no other."""
        before, width, has_blocks, hidden, kernel_size, op, activation, act_type = configuration
        widths = [before] * stage + [width] * (self.num_stages - stage)
        return self._example(
            widths=tuple(widths),
            depths=tuple(has_blocks * (other == stage) for other in range(self.num_stages)),
            mlp_ratio=_ratio(hidden, width) if has_blocks else 1,
            kernel_size=kernel_size if has_blocks else 1,
            ops=OPS[op],
            activation=ACTIVATIONS[activation],
            act_type=ACT_TYPES[act_type],
            stem_width=before,
        )

    def end_codes(self) -> Codes:
        """What distinguishes the networks before and behind the stages."""
        return _encode([self.stem_width, self.widths[:, -1], self.act_type])

    def end_example(self, configuration: tuple[int, ...]) -> Architecture:
        """A network without blocks that has this configuration of `end_codes`."""
        stem_width, width, act_type = configuration
        stages = self.num_stages
        return self._example(
            widths=(width,) * stages, depths=(0,) * stages, act_type=ACT_TYPES[act_type], stem_width=stem_width
        )

    def _example(self, **fields: Any) -> Architecture:
        known: Mapping[str, Any] = fields
        return Architecture.of(embed_dim=known["widths"][0], **fields)


def _ratio(hidden: int, width: int) -> float:
    """An expansion ratio of that hidden width: rounding may have left the ratio's range, its end rounds back."""
    rule = FIELDS["mlp_ratio"]
    return min(max(hidden / width, rule.low), rule.high)


def _columns(rows: Sequence[Any]) -> IntArray:
    return np.array(rows, dtype=np.int64)


def _encode(columns: Sequence[IntArray]) -> Codes:
    """Distinct rows of the columns, found by a table over their values' ranks: no sorting of a million rows."""
    code = np.zeros(len(columns[0]), dtype=np.int64)
    size = 1
    for column in columns:
        values, ranks = _rank(column)
        code, size = code * len(values) + ranks, size * len(values)
        if size > _MAX_TABLE:
            _, code = np.unique(code, return_inverse=True)
            size = int(code.max()) + 1
    _, index = _rank(code)
    examples = np.empty(int(index.max()) + 1, dtype=np.int64)
    examples[index] = np.arange(len(index))
    rows = zip(*(column[examples].tolist() for column in columns), strict=True)
    return Codes(configurations=list(rows), index=index)


def _rank(column: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct values in ascending order, and each value's place among them."""
    span = int(column.max()) + 1
    if span > _MAX_TABLE:
        values, ranks = np.unique(column, return_inverse=True)
        return values, ranks
    present = np.zeros(span, dtype=bool)
    present[column] = True
    places = np.cumsum(present) - 1
    return np.flatnonzero(present), places[column]
