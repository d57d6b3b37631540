"""A candidate the study does not know yet, where the sampler keeps suggesting known ones."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Mapping, Sequence

from starsearch.space import SearchSpace
from starsearch.space.parameters import Parameter, Value

Params = Mapping[str, Value]
# Draws before a space is taken for exhausted, or walked through where it is small enough for that.
_DRAWS = 200
_MAX_WALKED = 20_000


class UnseenDraw:
    """Draws uniformly from the space until something unseen comes; walks through a small space."""

    def __init__(self, space: SearchSpace, rng: random.Random) -> None:
        self._space = space
        self._rng = rng
        self._left: list[Params] | None = None

    def __call__(self, is_seen: Callable[[Params], bool]) -> Params | None:
        """Params that `is_seen` denies; None where there are none.

        The answer None is exact where the parameters have at most 20,000 combinations. In a larger space
        it means that 200 uniform draws, constraints satisfied, were all known.
        """
        for _ in range(_DRAWS):
            params = self._space.sample(self._rng)
            if not is_seen(params):
                return params
        if not _is_small(self._space.parameters):
            return None
        if self._left is None:
            self._left = _walk(self._space.parameters)
            self._rng.shuffle(self._left)
        while self._left:
            if not is_seen(walked := self._left.pop()):
                return walked
        return None


def _is_small(parameters: Sequence[Parameter]) -> bool:
    sizes = (_MAX_WALKED + 1 if one.values is None else len(one.values) for one in parameters)
    return math.prod(sizes) <= _MAX_WALKED


def _walk(parameters: Sequence[Parameter]) -> list[Params]:
    names, listed = [one.name for one in parameters], [one.values or () for one in parameters]
    return [dict(zip(names, values, strict=True)) for values in itertools.product(*listed)]
