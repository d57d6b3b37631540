import pytest

from starsearch.cli import _show_warnings
from starsearch.records.patience import Patience


@pytest.mark.filterwarnings("default")
def test_every_wait_for_a_storage_is_told_of_once(capsys, monkeypatch):
    monkeypatch.setattr("warnings.showwarning", None)  # put back after `_show_warnings` has set its own
    _show_warnings()
    waiting = Patience("The database is locked", limit_s=600.0, clock=lambda: 0.0)
    for _ in range(2):
        tries = [OSError, OSError, None]

        def attempt(tries=tries):
            if (error := tries.pop(0)) is not None:
                raise error

        waiting.outwait(attempt, is_away=lambda error: isinstance(error, OSError), pause_s=0.0)
    line = "warning: The database is locked. Waiting up to 600 s for it.\n"
    assert capsys.readouterr().err == 2 * line
