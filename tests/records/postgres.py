"""A PostgreSQL server of the tests' own: in a temporary folder, on a loopback port, ended with its user."""

import os
import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path

_UNPRIVILEGED = "postgres"


def find(name):
    """A program of PostgreSQL; systems keep them out of the PATH."""
    places = [shutil.which(name), *sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)]
    return next((str(Path(place).resolve()) for place in places if place), None)


def missing():
    """Why no server can be started here; None where one can."""
    if find("initdb") is None or find("postgres") is None:
        return "PostgreSQL's programs (initdb, postgres) are not installed"
    if os.geteuid() == 0 and (shutil.which("runuser") is None or _user() is None):
        return f"PostgreSQL refuses to run as root, and there is no user {_UNPRIVILEGED!r} to run it as"
    return None


def _user():
    import pwd

    try:
        return pwd.getpwnam(_UNPRIVILEGED)
    except KeyError:
        return None


@contextmanager
def server(folder):
    """URL of a running server's empty database."""
    prefix = []
    if os.geteuid() == 0:
        prefix = ["runuser", "-u", _UNPRIVILEGED, "--"]
        shutil.chown(folder, _UNPRIVILEGED)
    data = str(folder / "data")
    subprocess.run(
        [*prefix, find("initdb"), "-D", data, "-U", "tester", "--auth", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["-h", "127.0.0.1", "-p", str(port), "-k", str(folder), "-F"]
    # In the foreground, and a child of the tests: it cannot outlive them unseen.
    process = subprocess.Popen(
        [*prefix, find("postgres"), "-D", data, *options], stderr=subprocess.PIPE, text=True, cwd=folder
    )
    try:
        while "ready to accept connections" not in (line := process.stderr.readline()):
            assert line, "the server has ended"
        yield f"postgresql://tester@127.0.0.1:{port}/postgres"
    finally:
        pid = int((folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, 3)  # SIGQUIT: at once, its data are thrown away
        process.communicate()
