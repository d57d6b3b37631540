"""The command line: parse, call one use case, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys

from starsearch.errors import StarsearchError


def main() -> None:
    """Run the command line; a `StarsearchError` becomes one message and exit code 2."""
    from starsearch.cli.app import app

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


def _complain(message: str) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=True, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), message))
