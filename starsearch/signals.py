"""Ctrl-C, a scheduler's SIGTERM and a closed terminal's SIGHUP: an interrupt at once, or a request to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_RECEIVED: list[int] = []


def interrupt_on_signals() -> None:
    """Raise `KeyboardInterrupt` on each signal, also in the background, where shells switch SIGINT off."""
    _RECEIVED.clear()
    for number in _numbers():
        signal.signal(number, _interrupt)


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """Yield an event that the first signal sets; a second one interrupts at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            _interrupt(number, frame)
        _RECEIVED.append(number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in _numbers()}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_code() -> int | None:
    """Return the exit code of a process that was asked to stop, 130 or, not by Ctrl-C, 143; None where it was not."""
    if not _RECEIVED:
        return None
    return 128 + (signal.SIGINT if _RECEIVED[0] == signal.SIGINT else signal.SIGTERM)


def _numbers() -> list[int]:
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)
    return numbers


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _RECEIVED.append(number)
    raise KeyboardInterrupt
