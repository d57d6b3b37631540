"""Whether a cluster's head is there, and still the one the driver came to.

Ray ends the process of a driver whose head has been silent for a minute, and aborts one that asks a head which was
started anew, both without a word of the study. So the head is asked here first, over a connection that Ray's own
does not share, and in a thread: one that takes connections and says nothing (stopped, swapped out) is waited for there.
"""

from __future__ import annotations

import os
import socket
import threading
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from starsearch.errors import StudyError
from starsearch.search.ray_nodes import Node

_REACHED_WITHIN_S = 5.0
_ASKED_EVERY_S = 2.0
_ASKED_AGAIN_WITHIN_S = 2 * _ASKED_EVERY_S
_LOOKED_EVERY_S = 1.0
# After which Ray ends the process; of it so much is waited, the rest is for the study's own end.
_RAYS_PATIENCE = "RAY_gcs_rpc_server_reconnect_timeout_s"
_RAYS_PATIENCE_S = 60.0
_SHARE = 0.75


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadAnswer:
    """What a head says of its cluster.

    Attributes:
        cluster: its identity; a head that keeps its state (Redis) comes back with the same.
        nodes: those that are alive.
    """

    cluster: str
    nodes: tuple[Node, ...] = ()


def ask_head(address: str) -> HeadAnswer | None:
    """What the head at `address` says; None where none answers. One that is silent is waited for half a minute.

    Asked by a client of its own: `ray.nodes` aborts the process where the head is another (Ray 2.60,
    "WrongClusterID").
    """
    if not _answers(address):
        return None
    from ray._raylet import GcsClient  # type: ignore[attr-defined] # it is compiled

    try:
        client = GcsClient(address=address)
        found = client.get_all_node_info(timeout=_REACHED_WITHIN_S)
    except Exception:  # gone since, or silent; Ray has several, and the thread that asks must not end by one
        return None
    return HeadAnswer(
        cluster=str(client.cluster_id.hex()),
        nodes=tuple(
            Node(id=id_.hex(), name=one.node_manager_address, resources=dict(one.resources_total))
            for id_, one in found.items()
            if one.state == one.ALIVE
        ),
    )


class Head:
    """The head of the cluster that this process is connected to, which a thread asks again and again.

    The thread waits for a head that is silent; the driver only reads what was heard last, and may be away meanwhile.

    Args:
        address: HOST:PORT of its control service.
        clock: seconds of a clock that never goes back.
        ask: the head at an address; None where none answers.
    """

    def __init__(
        self,
        address: str,
        clock: Callable[[], float] = time.monotonic,
        ask: Callable[[str], HeadAnswer | None] = ask_head,
    ) -> None:
        self._address = address
        self._clock = clock
        self._ask = ask
        self._first: HeadAnswer | None = None
        self._latest: HeadAnswer | None = None
        self._unanswered_since: float | None = None
        self._is_missed = False
        self._warned_at: float | None = None
        self._heard = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep_asking, name="starsearch-ray-head", daemon=True)

    def start(self) -> None:
        """Ask it from now on, and return with the first answer.

        Raises:
            StudyError: it is silent.
        """
        self._thread.start()
        while not self._heard.wait(_LOOKED_EVERY_S):
            self.is_there()

    def close(self) -> None:
        """Ask no more."""
        self._stop.set()
        if self._thread.is_alive():  # in the middle of a question it ends with that, or the process
            self._thread.join(_LOOKED_EVERY_S)

    def ask(self) -> None:
        """Ask once, and note whether it answers; for the thread."""
        if self._unanswered_since is None:
            self._unanswered_since = self._clock()
        answer = self._ask(self._address)
        if answer is None:
            self._is_missed = True
            return
        self._first = self._first or answer
        self._latest, self._unanswered_since, self._is_missed = answer, None, False
        self._heard.set()

    def is_there(self) -> bool:
        """Whether it answers; one that does not for a short while may be on its way back, and is warned of.

        Raises:
            StudyError: it has been silent for nearly as long as Ray waits, or another head answers in its place.
        """
        if self._first is not None and self._latest is not None and self._latest.cluster != self._first.cluster:
            raise StudyError(
                f"The Ray cluster is gone: the head at {self._address} was started anew and knows nothing of this "
                "run. Finished trials are kept; run the same command again."
            )
        since = self._unanswered_since
        silent_s = 0.0 if since is None else self._clock() - since
        if not self._is_missed and silent_s < _REACHED_WITHIN_S:  # perhaps it is being asked just now
            self._warned_at = None
            return True
        self._miss(silent_s)
        return False

    @property
    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are alive; while it is silent, those that were."""
        return () if self._latest is None else self._latest.nodes

    def _miss(self, silent_s: float) -> None:
        now, patience_s = self._clock(), _patience_s()
        if self._warned_at is None:
            self._warned_at = now
            warnings.warn(
                f"The Ray cluster's head at {self._address} does not answer. Waiting {patience_s:g} s for it.",
                stacklevel=2,
            )
        # Where this whole process was stopped, a question seems to have waited for as long: it is asked again.
        if silent_s >= patience_s and now - self._warned_at >= _ASKED_AGAIN_WITHIN_S:
            raise StudyError(
                f"The Ray cluster is gone: its head at {self._address} has not answered for {silent_s:.0f} s. "
                "Finished trials are kept; run the same command again once it is back."
            )

    def _keep_asking(self) -> None:
        while not self._stop.is_set():
            self.ask()
            self._stop.wait(_ASKED_EVERY_S)


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
        remedy = ". Set RAY_TMPDIR to a short path, /tmp for example." if "AF_UNIX" in said else ""
        return f"No Ray cluster can be started on this machine: {said}{remedy}"
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
