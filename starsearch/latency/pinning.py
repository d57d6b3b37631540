"""The timed thread stays on one core while it is timed."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress


def staying_on_its_core(*, only: bool) -> AbstractContextManager[None]:
    """Keeps the calling thread on the core it is on; threads it has started go where they like.

    Beside a process that keeps another core busy the scheduler moves both about, and each move costs the caches:
    40 pairs of StarNet-S4 then repeat to 0.9 to 1.0 %, and to 0.4 % where the thread stays
    (studies/benchmarks/latency/repeatability.py).

    Args:
        only: whether all that is timed computes in the calling thread. Nothing is kept otherwise: a pool that is
            started within would have to share the core for good.
    """
    return _on_this_core() if only else nullcontext()


@contextmanager
def _on_this_core() -> Iterator[None]:
    core = _current_core()
    if core is None:
        yield
        return
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {core})
    except OSError:  # a container may forbid it; nothing is wrong without
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):  # the machine's cores may have changed meanwhile
            os.sched_setaffinity(0, allowed)


def _current_core() -> int | None:
    """The core this thread runs on; None where the system does not say, or cannot keep a thread there."""
    if not hasattr(os, "sched_setaffinity"):  # macOS, Windows
        return None
    try:
        core = int(ctypes.CDLL(None).sched_getcpu())
    except (OSError, AttributeError):
        return None
    return core if core in os.sched_getaffinity(0) else None
