"""The Ray cluster that a run is connected to: found or started, and what fits on its nodes."""

from __future__ import annotations

import logging
import os
import signal
import socket
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import starsearch
from starsearch.errors import DataError, StudyError, did_you_mean
from starsearch.study.runner_file import RayRunner, TaskResources

T = TypeVar("T")

_POLL_S = 1.0
_REACHED_WITHIN_S = 5.0
_CALIBRATED_WITHIN_S = 300.0
# A socket's path holds 107 bytes, of which Ray's /ray/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store
# takes 68.
_LONGEST_TEMP_DIR = 39


@contextmanager
def connected(runner: RayRunner) -> Iterator[None]:
    """Connect to the runner's cluster, or start one on this machine, and disconnect (or end it) afterwards."""
    import ray

    address = runner.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise StudyError(
            f"RAY_ADDRESS is {address}: Ray Client cannot stream what evaluations report. Run starsearch on a node of "
            "the cluster with RAY_ADDRESS=auto, or submit it there: ray job submit -- starsearch run …"
        )
    terminated = signal.getsignal(signal.SIGTERM)
    try:
        _refuse_closed_door(address)
        with warnings.catch_warnings(action="ignore"):  # of what a later Ray will change
            options: dict[str, Any] = {"include_dashboard": False} if address == "local" else {}
            # A long TMPDIR leaves no room for the paths of the sockets of a cluster that is started here.
            is_long = len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMP_DIR
            if options and is_long and "RAY_TMPDIR" not in os.environ:
                options["_temp_dir"] = "/tmp/ray"  # noqa: S108 # as Ray's own
            shipped = {"py_modules": [str(Path(starsearch.__file__).parent)]} if runner.ship_code else {}
            env = {**shipped, **runner.runtime_env} or None
            ray.init(address=address, runtime_env=env, log_to_driver=False, logging_level=logging.ERROR, **options)
    except (ValueError, TypeError) as error:
        raise StudyError(f"Ray does not take the runner file's runtime_env: {first_line(error)}") from error
    except (OSError, RuntimeError) as error:
        raise StudyError(_why_not_connected(address, error)) from error
    finally:  # Ray takes a scheduler's signal for itself, and exits without a word
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminated)
    try:
        yield
    finally:
        with suppress(Exception):  # nothing can be done about a cluster that is lost
            ray.shutdown()


def _refuse_closed_door(address: str) -> None:
    """Raise OSError where nothing listens: Ray would try for a minute."""
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_WITHIN_S).close()


def _why_not_connected(address: str, error: BaseException) -> str:
    said = first_line(error)
    if "ersion mismatch" in str(error):
        words = " ".join(str(error).split())
        return f"The Ray cluster at {address} has another version than this process: {words}"
    if address == "local":
        remedy = ". Set RAY_TMPDIR to a short path, /tmp for example." if "AF_UNIX" in said else ""
        return f"No Ray cluster can be started on this machine: {said}{remedy}"
    return (
        f"There is no Ray cluster at {address!r}: {said}. Start one (ray start --head), correct the runner's "
        "address or RAY_ADDRESS, or leave both out to start one for this run."
    )


def room(wanted: TaskResources) -> int:
    """How many tasks that take `wanted` fit on the live nodes of the connected cluster."""
    amounts = as_ray(wanted)
    return sum(
        min(int(node["Resources"].get(name, 0.0) / amount + 1e-9) for name, amount in amounts.items())
        for node in _live_nodes()
    )


def wait_for_room(wanted: TaskResources, runner: RayRunner) -> None:
    """Return once a node has what `wanted` asks for, at the latest after the runner's `wait_s`: Ray waits for ever."""
    from ray.autoscaler.sdk import request_resources

    deadline = time.monotonic() + runner.wait_s
    if not room(wanted):
        with suppress(Exception):  # lets a cluster that scales by demand know; others have nobody to ask
            request_resources(bundles=[as_ray(wanted)])
    while not room(wanted):
        if time.monotonic() >= deadline:
            raise StudyError(
                f"No node of the Ray cluster has what one task takes ({in_words(as_ray(wanted))}), and none has come "
                f"within {runner.wait_s:g} s.{_missing(wanted)} Nodes: {nodes_in_words()}. Ask for less in the "
                "runner's resources, add a node, or raise wait_s where the cluster scales by demand."
            )
        time.sleep(min(_POLL_S, runner.wait_s))


def ask_node(ask: Callable[[], T], wanted: TaskResources) -> T:
    """What `ask` returns on a node that has what is wanted."""
    import ray

    try:
        answer: T = ray.get(ray.remote(**task_options(wanted))(lambda: ask()).remote(), timeout=_CALIBRATED_WITHIN_S)
    except ray.exceptions.RayTaskError as error:
        raise error_of_worker(error) from error
    except ray.exceptions.RayError as error:
        raise StudyError(f"The node with {in_words(as_ray(wanted))} does not answer: {first_line(error)}") from error
    return answer


def as_ray(wanted: TaskResources) -> dict[str, float]:
    """The resources by Ray's names, without those not asked for."""
    named = {"CPU": wanted.cpu, "GPU": wanted.gpu, "memory": (wanted.memory_gb or 0.0) * 1e9, **wanted.custom}
    return {name: amount for name, amount in named.items() if amount > 0}


def task_options(wanted: TaskResources) -> dict[str, Any]:
    """The resources as options of a Ray task."""
    memory = {} if wanted.memory_gb is None else {"memory": int(wanted.memory_gb * 1e9)}
    return {"num_cpus": wanted.cpu, "num_gpus": wanted.gpu, "resources": dict(wanted.custom), **memory}


def first_line(error: BaseException) -> str:
    """The first line of Ray's error; of a task's error, of what was raised there."""
    cause = getattr(error, "cause", None)
    said = f"{type(cause).__name__}: {cause}" if isinstance(cause, BaseException) else str(error)
    return (said.strip() or type(error).__name__).splitlines()[0].strip()


def error_of_worker(error: Any) -> StudyError | DataError:
    """What is no candidate's fault: the worker's own words, or that it cannot load what it evaluates."""
    cause = error.cause
    if isinstance(cause, (StudyError, DataError)):
        # Ray's class stands between; its text is the whole traceback.
        return (DataError if isinstance(cause, DataError) else StudyError)(cause.args[0])
    return StudyError(
        f"The cluster's workers cannot run evaluations: {first_line(error)}\nInstall the driver's starsearch on every "
        "node, or set `ship_code: true` (and `runtime_env: {pip: […]}`) in the runner file."
    )


@contextmanager
def cluster_errors() -> Iterator[None]:
    """Say in words that the cluster's head is lost, where Ray says so before it ends this process."""
    import ray

    try:
        yield
    except (ray.exceptions.RaySystemError, ConnectionError) as error:
        raise StudyError(
            f"The Ray cluster is lost: {first_line(error)}. Finished trials are kept; run the same command again once "
            "it is back."
        ) from error


def _live_nodes() -> list[dict[str, Any]]:
    import ray

    with cluster_errors():
        return [node for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]


def _missing(wanted: TaskResources) -> str:
    """What to do about custom resources that no node carries: a name may be misspelt."""
    carried = {name for node in _live_nodes() for name in _shown(node["Resources"])}
    return "".join(
        f" None carries the custom resource {name!r}.{did_you_mean(name, carried)} Correct it in the runner file, or "
        f"start that node with: ray start --address HEAD:PORT --resources '{{\"{name}\": 1}}'."
        for name in wanted.custom if name not in carried
    )  # fmt: skip


def nodes_in_words() -> str:
    """The live nodes with what they have."""
    return "; ".join(f"{n['NodeManagerAddress']} ({in_words(_shown(n['Resources']))})" for n in _live_nodes()) or "none"


def _shown(resources: Mapping[str, float]) -> dict[str, float]:
    """The part of a node's resources that a user asks for."""
    hidden = ("node:", "object_store", "accelerator_type")
    return {name: amount for name, amount in resources.items() if not name.startswith(hidden)}


def in_words(resources: Mapping[str, float]) -> str:
    """As "4 CPU, 0.5 GPU, memory 16 GB, 1 laptop"."""
    parts = [f"memory {v / 1e9:.0f} GB" if name == "memory" else f"{v:g} {name}" for name, v in resources.items()]
    return ", ".join(parts) or "nothing"
