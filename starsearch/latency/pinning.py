"""The timed thread stays on one core while it is timed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def staying_on_its_core(*, only: bool) -> Iterator[None]:
    """Keep the calling thread on its current core; threads it has started are free to move.

    Beside a process that keeps another core busy the scheduler moves both about, and each move costs the caches:
    40 pairs of StarNet-S4 then repeat to 0.9 to 1.0 %, and to 0.4 % where the thread stays
    (studies/benchmarks/latency/repeatability.py).

    Args:
        only: whether everything timed computes in the calling thread. Otherwise nothing is kept on a core: a thread
            pool started inside would have to share that core for good.
    """
    core = _current_core() if only else None
    allowed = os.sched_getaffinity(0) if core is not None else set()
    if core is not None:
        with suppress(OSError):  # a container may forbid it; nothing is wrong without
            os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        if core is not None:
            with suppress(OSError):  # the machine's cores may have changed meanwhile
                os.sched_setaffinity(0, allowed)


def _current_core() -> int | None:
    """Return the core this thread runs on; None where the system does not say, or cannot keep a thread there."""
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        return None
    try:
        core = int(ctypes.CDLL(None).sched_getcpu())
    except (OSError, AttributeError):
        return None
    return core if core in os.sched_getaffinity(0) else None
