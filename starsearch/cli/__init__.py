"""The command line: parse, call one use case, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
import warnings
from typing import Any

from starsearch.errors import StarsearchError


def main() -> None:
    """Run the command line; a `StarsearchError` becomes one message and exit code 2."""
    from starsearch.cli.app import app

    _show_warnings()
    try:
        app()
    except StarsearchError as error:
        _complain(str(error))
        sys.exit(2)
    except KeyboardInterrupt:
        _complain("Interrupted.")
        sys.exit(130)
    except BrokenPipeError:  # `starsearch front … | head`
        sys.stderr.close()
        sys.exit(141)


def _show_warnings() -> None:
    warnings.showwarning = _warn  # type: ignore[assignment] # where it was said is not for the user
    # Python shows equal warnings once a process; of each new wait for a storage or a cluster's head the user is told.
    # Only of these: what a library says of code of ours would be repeated with every step.
    for waits in (r"starsearch\.records\.patience", r"starsearch\.search\.ray_head"):
        warnings.filterwarnings("always", category=UserWarning, module=waits)


def _warn(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Our own warnings in a line; those of libraries are not for the user."""
    if category is UserWarning:
        _say("warning: ", "bold yellow", str(message))


def _complain(message: str) -> None:
    _say("error: ", "bold red", message)


def _say(head: str, style: str, message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    Console(stderr=True, soft_wrap=True).print(Text.assemble((head, style), message))
