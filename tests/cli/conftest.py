"""The command line in this process: most of what it is asked here ends before anything is computed."""

import sys
import warnings

import pytest

from starsearch.cli import main


@pytest.fixture
def starsearch(capsys, monkeypatch):
    """Runs a command: exit code, stdout, stderr."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)  # `main` sets its own

    def _starsearch(*arguments):
        monkeypatch.setattr(sys, "argv", ["starsearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return ended.value.code or 0, printed.out, printed.err

    return _starsearch
