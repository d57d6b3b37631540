"""A PostgreSQL server of the tests' own: in a temporary folder, on a loopback port, ended with its user."""

import os
import shutil
import signal
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


class Server:
    """A server on a port of its own; its data are in a folder.

    In the foreground, and a child of the tests: it cannot outlive them unseen.
    """

    def __init__(self, prefix, folder):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        self._prefix = prefix
        self._folder = folder
        self.url = f"postgresql://tester@127.0.0.1:{self._port}/postgres"

    def start(self):
        """Return once it accepts connections."""
        folder = self._folder
        options = ["-h", "127.0.0.1", "-p", str(self._port), "-k", str(folder), "-F"]
        command = [*self._prefix, find("postgres"), "-D", str(folder / "data"), *options]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=folder)
        while "ready to accept connections" not in (line := self._process.stderr.readline()):
            assert line, "the server has ended"

    def stop(self, how=signal.SIGQUIT):
        """End it at once, or as `how` says; SIGINT cuts its connections and keeps its data."""
        pid = int((self._folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, how)
        self._process.communicate()


@contextmanager
def server(folder):
    """A running server with an empty database."""
    prefix = []
    if os.geteuid() == 0:
        prefix = ["runuser", "-u", _UNPRIVILEGED, "--"]
        shutil.chown(folder, _UNPRIVILEGED)
    subprocess.run(
        [*prefix, find("initdb"), "-D", str(folder / "data"), "-U", "tester", "--auth", "trust", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    found = Server(prefix, folder)
    found.start()
    try:
        yield found
    finally:
        found.stop()
