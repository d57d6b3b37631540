"""The command line in a process of its own, spared the seconds in which Python imports torch and its like.

A server process imports the libraries once and is forked for each command, which still imports all of starsearch.
That run, export, front and validate need no library imported before them is shown where `fresh_starsearch` is called.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

# Not ray and onnxruntime, whose threads do not outlive a fork, nor starsearch, whose own imports are tested along.
_LIBRARIES = [
    "torch", "torch._dynamo", "timm", "optuna", "optuna_dashboard", "sqlalchemy", "pandas", "scipy.stats",
    "sklearn.datasets", "matplotlib.pyplot", "plotly.graph_objects", "pydantic", "typer", "rich.console",
]  # fmt: skip
_LONGEST_S = 300.0
ROOT = Path(__file__).parents[1]

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload(_LIBRARIES)


def starsearch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """What the command with these arguments printed in `cwd`, and how it ended."""
    with begun(*arguments, cwd=cwd) as (process, out, err):
        process.join(_LONGEST_S)
        if process.exitcode is None:
            raise subprocess.TimeoutExpired(arguments, _LONGEST_S, out.read_text(), err.read_text())
        return subprocess.CompletedProcess(arguments, process.exitcode, out.read_text(), err.read_text())


@contextmanager
def begun(*arguments: str, cwd: Path) -> Iterator[tuple[BaseProcess, Path, Path]]:
    """A command at work, and the files of its standard output and error; killed if it is left before its end."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "stdout"), Path(folder, "stderr")
        process = processes.Process(target=_run, args=(arguments, str(cwd), dict(os.environ), out, err))
        process.start()
        try:
            yield process, out, err
        finally:
            process.kill()
            process.join()


def fresh_starsearch(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The same in an interpreter that has imported nothing yet, and that ends as one: Ray is stopped at exit."""
    return python("-c", "from starsearch.cli import main; main()", *arguments, cwd=cwd)


def python(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """A fresh interpreter, run to its end."""
    with running(*arguments, **{"stderr": subprocess.PIPE, **options}) as process:
        out, err = process.communicate(timeout=_LONGEST_S)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)


@contextmanager
def running(
    *arguments: object, cwd: Path = ROOT, environment: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A fresh interpreter at work, which finds modules as this process does; killed if it is left before its end."""
    command, options = [sys.executable, *map(str, arguments)], {"stdout": subprocess.PIPE, "text": True, **options}
    found = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **(environment or {})}
    with subprocess.Popen(command, cwd=cwd, env=found, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def _run(arguments: tuple[str, ...], cwd: str, environment: dict[str, str], out: Path, err: Path) -> None:
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as of what a script starts in the background: Python leaves it so
    for stream, file in ((sys.stdout, out), (sys.stderr, err)):
        with file.open("w") as opened:
            os.dup2(opened.fileno(), stream.fileno())
    sys.argv = ["starsearch", *arguments]
    from starsearch.cli import main

    try:
        main()
    except Exception:
        traceback.print_exc()  # as an interpreter would; multiprocessing words it otherwise
        sys.exit(1)
