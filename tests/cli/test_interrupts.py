"""What a command that is interrupted, or that nobody reads any more, ends as for the shell that started it."""

import os
import signal
import subprocess
import sys

import pytest

from tests.command_line import python

# Signals itself when a module is imported: while the command line is still loading, or once it works.
SIGNALLED = """
import os, sys

number, module = sys.argv[1:3]

class Signal:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), int(number))

sys.meta_path.insert(0, Signal())
del sys.argv[1:3]
from starsearch.cli import main
main()
"""


@pytest.mark.parametrize(
    ("number", "module", "command", "code"),
    [
        (signal.SIGINT, "starsearch.cli.app", "run starnet", 130),
        (signal.SIGTERM, "typer", "run starnet", 143),
        (signal.SIGHUP, "numpy", "run starnet", 143),
        (signal.SIGINT, "optuna", "run starnet", 130),
        (signal.SIGINT, "pandas", "plan starnet", 130),
        (signal.SIGTERM, "numpy", "data check digits", 143),
        (signal.SIGINT, "onnxruntime", "latency fit --out laptop.yaml --budget 8", 130),
    ],
)
def test_an_interrupted_command_ends_in_a_word_and_so_that_the_next_one_is_not_run(
    tmp_path, number, module, command, code
):
    done = python("-c", SIGNALLED, int(number), module, *command.split(), cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Interrupted. The same command begins again, or goes on" in done.stderr
    assert "Traceback" not in done.stderr


def test_nohup_goes_on_without_its_terminal(tmp_path):
    done = subprocess.run(
        ["nohup", sys.executable, "-c", SIGNALLED, str(int(signal.SIGHUP)), "starsearch.cli.app", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["space", "show", "starnet"], ["latency", "backends"]])
def test_a_pipe_that_nobody_reads_ends_a_command_without_a_word(arguments):
    reader, writer = os.pipe()
    os.close(reader)
    done = python("-m", "starsearch", *arguments, stdout=writer)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")
