"""Whether a cluster's head is there, and still the one the driver came to.

Ray ends the process of a driver whose head has been silent for a minute, and aborts one that asks a head which was
started anew, both without a word of the study. So the head is asked here first, over a connection that Ray's own
does not share.
"""

from __future__ import annotations

import os
import socket
import time
import warnings
from collections.abc import Callable

from starsearch.errors import StudyError

_REACHED_WITHIN_S = 5.0
# After which Ray ends the process; of it so much is waited, the rest is for the study's own end.
_RAYS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RAYS_PATIENCE_S = 60.0
_SHARE = 0.75


def identify_head(address: str) -> str | None:
    """Of the cluster whose head is at `address`; None where none answers.

    A head that keeps its state (Redis) comes back with the same. Asked by a client of its own: `ray.nodes` aborts the
    process where the head is another (Ray 2.60, "WrongClusterID").
    """
    if not _answers(address):
        return None
    import ray
    from ray._raylet import GcsClient  # type: ignore[attr-defined] # it is compiled

    try:
        return str(GcsClient(address=address).cluster_id.hex())
    except ray.exceptions.RpcError:  # gone since
        return None


class Head:
    """The head of the cluster that this process is connected to.

    Args:
        address: HOST:PORT of its control service.
        clock: seconds of a clock that never goes back.
        identify: tells the cluster of the head at an address; None where none answers.
    """

    def __init__(
        self,
        address: str,
        clock: Callable[[], float] = time.monotonic,
        identify: Callable[[str], str | None] = identify_head,
    ) -> None:
        self._address = address
        self._clock = clock
        self._identify = identify
        self._identity = identify(address)
        self._heard_at = clock()
        self._is_missed = False

    def is_there(self) -> bool:
        """Whether it answers now; one that does not for a short while may be on its way back, and is warned of.

        Raises:
            StudyError: it has been silent for nearly as long as Ray waits, or another head answers in its place.
        """
        identity = self._identify(self._address)
        if identity is None:
            self._miss()
            return False
        if identity != self._identity:
            raise StudyError(
                f"The Ray cluster is gone: the head at {self._address} was started anew and knows nothing of this "
                "run. Finished trials are kept; run the same command again."
            )
        self._heard_at, self._is_missed = self._clock(), False
        return True

    def _miss(self) -> None:
        silent_s, patience_s = self._clock() - self._heard_at, _patience_s()
        if silent_s >= patience_s:
            raise StudyError(
                f"The Ray cluster is gone: its head at {self._address} has not answered for {silent_s:.0f} s. "
                "Finished trials are kept; run the same command again once it is back."
            )
        if not self._is_missed:
            self._is_missed = True
            warnings.warn(
                f"The Ray cluster's head at {self._address} does not answer. Waiting {patience_s:g} s for it.",
                stacklevel=2,
            )


def refuse_unreachable(address: str) -> None:
    """Refuse a head that nobody can reach; a closed door is found in seconds, Ray would knock for a minute.

    Raises:
        StudyError: nobody listens there.
    """
    _, colon, port = address.rpartition(":")
    if not colon or not port.isdigit():
        return
    try:
        _reach(address)
    except OSError as error:
        raise StudyError(why_not_connected(address, error)) from error


def why_not_connected(address: str, error: BaseException) -> str:
    """The words for a cluster at `address` that could not be connected to."""
    said = first_line(error)
    if "ersion mismatch" in str(error):
        told = " ".join(str(error).split())
        return f"The Ray cluster at {address} has another version than this process: {told}"
    if address == "local":
        return f"No Ray cluster can be started on this machine: {said}"
    return (
        f"There is no Ray cluster at {address!r}: {said}. Start one (ray start --head), correct the runner's "
        "address or RAY_ADDRESS, or leave both out to start one for this run."
    )


def first_line(error: BaseException) -> str:
    """What an error of Ray says in short: of a task's, what was raised there."""
    cause = getattr(error, "cause", None)
    said = f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(error)
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def _answers(address: str) -> bool:
    try:
        _reach(address)
    except OSError:
        return False
    return True


def _reach(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_WITHIN_S).close()


def _patience_s() -> float:
    try:
        rays = float(os.environ[_RAYS_PATIENCE])
    except (KeyError, ValueError):  # Ray has its own words for what is no number
        rays = _RAYS_PATIENCE_S
    return _SHARE * rays
