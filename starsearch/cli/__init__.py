"""The command line: parse, call one use case, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import errno
import io
import os
import sys
import warnings
from typing import Any, TextIO

from starsearch.errors import StarsearchError
from starsearch.signals import exit_code, interrupt_on_signals


def main() -> None:
    """Run the command line; a `StarsearchError` becomes one message and exit code 2, Ctrl-C 130, SIGTERM 143."""
    code: Any = 130
    try:
        interrupt_on_signals()
        sys.stdout, sys.stderr = _outlive_reader(sys.stdout), _outlive_reader(sys.stderr)
        from starsearch.cli.app import app

        warnings.showwarning = _warn  # type: ignore[assignment] # where it was said is not for the user
        app()
    except StarsearchError as error:
        _say("error: ", "bold red", str(error))
        code = 2
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        if exit_code() is None:
            raise
    if exit_code() is not None and code == 130:  # else the command has said how far it came
        _say("", "", "Interrupted. The same command begins again, or goes on with what was kept.")
    sys.exit(exit_code() or code)


class _Output(io.FileIO):
    """A standard stream that falls silent once its reader is gone (`| head -1`, a closed terminal)."""

    def write(self, data: Any) -> int:
        """Write what can be written, and claim all of `data`."""
        try:
            return super().write(data)
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return len(data)


def _outlive_reader(stream: TextIO) -> TextIO:
    """Return a standard stream as `_Output`; what a test or a notebook has put in its place stays."""
    if stream not in (sys.__stdout__, sys.__stderr__) or not isinstance(stream, io.TextIOWrapper):
        return stream
    output = _Output(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        output if stream.write_through else io.BufferedWriter(output),  # as python -u does
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _warn(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Print our own warnings in a line; those of libraries are not for the user."""
    if category is UserWarning:
        _say("warning: ", "bold yellow", str(message))


def _say(head: str, style: str, message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text.assemble((head, style), message))
