"""The Ray cluster a study runs on: found or started, looked over before anything runs there, and let go."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from starsearch.errors import StudyError, did_you_mean
from starsearch.search.ray_head import Head, first_line, refuse_unreachable, why_not_connected
from starsearch.search.ray_nodes import Node, look_around, refuse_stranger, versions

if TYPE_CHECKING:
    from starsearch.study.runner_file import RayRunner, TaskResources

T = TypeVar("T")

# A socket's path holds 107 bytes, of which Ray's /ray/session_2026-01-31_12-00-00_123456_1234567/sockets/plasma_store
# takes 68.
_LONGEST_TEMP_DIR = 39
_LOOKED_OVER_WITHIN_S = 60.0
_INSTALLED_WITHIN_S = 900.0
_MEASURED_WITHIN_S = 300.0  # the calibration of a device


class RayCluster:
    """A connection to a Ray cluster, for the time of one run.

    Args:
        runner: which one, and how its workers are set up.

    Raises:
        StudyError: there is none at the address, it has another version, or it cannot be started.
    """

    def __init__(self, runner: RayRunner) -> None:
        self._runner = runner
        self._no_room_since: float | None = None
        self._connect()
        self._head = self._find_head()

    def nodes(self) -> tuple[Node, ...]:
        """The nodes that are alive; while the head is silent, those that were.

        Raises:
            StudyError: the cluster is gone.
        """
        self._head.is_there()
        return self._head.nodes

    def capacity(self, wanted: TaskResources) -> int:
        """How many tasks that take `wanted` fit on the cluster as its head last told of it."""
        return sum(node.fits(as_ray(wanted)) for node in self._head.nodes)

    def wait_for(self, wanted: TaskResources) -> None:
        """Return once a node has what one evaluation takes.

        Raises:
            StudyError: none has, after the runner's `wait_s`: Ray would wait for ever.
        """
        if not self._comes(wanted):
            raise StudyError(
                f"No node of the Ray cluster has what one evaluation takes ({_in_words(as_ray(wanted))}), and none "
                f"has come within {self._runner.wait_s:g} s. Nodes: {self._nodes_in_words()}. Ask for less in the "
                "runner's resources, add a node, or raise wait_s where the cluster scales by demand."
            )

    def wait_for_device(self, device: str, wanted: TaskResources) -> None:
        """Return once a node carries `device`, and has what a measurement there takes.

        Raises:
            StudyError: none has, after the runner's `wait_s`.
        """
        if self._comes(wanted):
            return
        carried = {name for node in self.nodes() for name in _shown(node.resources)}
        missing = (
            f"has the rest of what a measurement takes ({_in_words(as_ray(wanted))})" if device in carried else
            f"carries the runner's device {device!r} as a custom resource"
        )  # fmt: skip
        raise StudyError(
            f"No node of the Ray cluster {missing}, and none has come within {self._runner.wait_s:g} s."
            f"{did_you_mean(device, carried - {device})} Nodes: {self._nodes_in_words()}. Correct `device` in the "
            f"runner file, or start that machine's node with: ray start --address HEAD:PORT --resources "
            f"'{{\"{device}\": 1}}'"
        )

    def _comes(self, wanted: TaskResources) -> bool:
        """Whether a node has what is wanted, now or within the runner's `wait_s`.

        Raises:
            StudyError: the cluster is gone.
        """
        deadline = time.monotonic() + self._runner.wait_s
        if not self.capacity(wanted):
            self._ask_for(wanted)
        while not self.capacity(wanted):
            self._head.is_there()
            if time.monotonic() >= deadline:
                return False
            time.sleep(min(1.0, self._runner.wait_s))
        return True

    def look_over(
        self, wanted: TaskResources, *, evaluator: Any, folder: Path | None, device: str | None = None
    ) -> tuple[str, ...]:
        """Ask every node that evaluations fit on whether they can run there; the hosts' identities.

        Args:
            wanted: what an evaluation takes.
            evaluator: a reference to it in the object store; it must load there and read its data.
            folder: the study's, which must be seen there too: weights and checkpoints are written to it.
            device: what these nodes must be, since the study's latencies are measured there; None for anything.

        Raises:
            StudyError: a node has other versions, sees no data or no folder, or is another device; the text says
                which.
        """
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        nodes = [node for node in self.nodes() if node.fits(as_ray(wanted))]
        asked = [
            ray.remote(look_around)
            .options(num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=True))
            .remote(evaluator, None if folder is None else str(folder.resolve()))
            for node in nodes
        ]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=self._patience_s) if asked else ([], [])
        found = [self._answer(node, ref if ref in done else None) for node, ref in zip(nodes, asked, strict=True)]
        for node, answer in zip(nodes, found, strict=True):
            refuse_stranger(node.name, answer, versions(), device=device)
        return tuple(answer["host"] for answer in found)

    def ask_there(self, ask: Callable[[], T], wanted: TaskResources) -> T:
        """What `ask` returns on a node that has what is wanted.

        Raises:
            StudyError: it fails there, or no worker answers in time.
        """
        import ray

        ref = ray.remote(**task_options(wanted))(ask).remote()
        done, _ = ray.wait([ref], timeout=max(_MEASURED_WITHIN_S, self._patience_s))
        found: T = self._answer(Node(id="", name=_in_words(as_ray(wanted)), resources={}), ref if done else None)
        return found

    def check_is_alive(self, wanted: TaskResources) -> None:
        """Return if an evaluation fits on some node, or one may still come.

        Raises:
            StudyError: the cluster is gone, or has had no room for longer than a minute and the runner's `wait_s`.
        """
        self._head.is_there()
        now = time.monotonic()
        if self.capacity(wanted):
            self._no_room_since = None
        elif self._no_room_since is None:  # not when there was room: nobody may have looked for long
            self._no_room_since = now
        elif now - self._no_room_since > max(_LOOKED_OVER_WITHIN_S, self._runner.wait_s):
            raise StudyError(
                "The Ray cluster has lost every node that has what one evaluation takes "
                f"({_in_words(as_ray(wanted))}). Nodes: {self._nodes_in_words()}. Finished trials are kept; "
                "add a node and run the same command again."
            )

    def close(self) -> None:
        """Let go of the cluster; one that was started here ends."""
        import ray

        self._head.close()
        with suppress(Exception):  # nothing can be done about a cluster that is gone
            ray.shutdown()

    @property
    def _patience_s(self) -> float:
        """For a worker's first answer; packages are installed and code is sent before it."""
        is_sent = self._runner.ship_code or self._runner.runtime_env
        return max(_INSTALLED_WITHIN_S if is_sent else _LOOKED_OVER_WITHIN_S, self._runner.wait_s)

    def _ask_for(self, wanted: TaskResources) -> None:
        """Let a cluster that scales by demand know of it."""
        from ray.autoscaler.sdk import request_resources

        with suppress(Exception):  # a cluster that does not scale has nobody to ask
            request_resources(bundles=[as_ray(wanted)])

    def _connect(self) -> None:
        import ray

        address = self._runner.address or os.environ.get("RAY_ADDRESS") or "local"
        if address.startswith("ray://"):
            raise StudyError(
                f"RAY_ADDRESS is {address}: Ray Client cannot stream what evaluations say. Run starsearch on a node of "
                "the cluster with RAY_ADDRESS=auto, or submit it there: ray job submit -- starsearch run …"
            )
        refuse_unreachable(address)
        terminated = signal.getsignal(signal.SIGTERM)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what a later Ray will change
                options: dict[str, Any] = {"include_dashboard": False, **_temp_dir()} if address == "local" else {}
                ray.init(
                    address=address,
                    runtime_env=_runtime_env(self._runner),
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    **options,
                )
        except (ValueError, TypeError) as error:
            raise StudyError(f"Ray does not take the runner file's runtime_env: {first_line(error)}") from error
        except (OSError, RuntimeError) as error:
            raise StudyError(why_not_connected(address, error)) from error
        finally:  # Ray takes a scheduler's signal for itself, and exits without a word
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, terminated)

    def _find_head(self) -> Head:
        import ray

        head = Head(ray.get_runtime_context().gcs_address)
        try:
            head.start()
        except BaseException:
            head.close()
            ray.shutdown()
            raise
        return head

    def _answer(self, node: Node, ref: Any) -> Any:
        import ray

        if ref is None:
            raise StudyError(
                f"The node {node.name} has not answered within {self._patience_s:g} s: its worker does not start, it "
                "is busy with other work or out of memory, or its environment (runtime_env) takes longer to install. "
                "See its logs (ray logs), take it out of the cluster, or raise wait_s."
            )
        try:
            return ray.get(ref)
        except ray.exceptions.RayError as error:
            raise StudyError(
                f"The node {node.name} cannot run evaluations: {first_line(error)}\nInstall the driver's starsearch "
                "there, or set `ship_code: true` (and `runtime_env: {pip: […]}`) in the runner file."
            ) from error

    def _nodes_in_words(self) -> str:
        return "; ".join(f"{node.name} ({_in_words(_shown(node.resources))})" for node in self.nodes()) or "none"


def as_ray(wanted: TaskResources) -> dict[str, float]:
    """By Ray's names, without what is not asked for."""
    named = {"CPU": wanted.cpu, "GPU": wanted.gpu, "memory": (wanted.memory_gb or 0.0) * 1e9, **wanted.custom}
    return {name: amount for name, amount in named.items() if amount > 0}


def task_options(wanted: TaskResources) -> dict[str, Any]:
    """The same as options of a Ray task."""
    options: dict[str, Any] = {"num_cpus": wanted.cpu, "num_gpus": wanted.gpu, "resources": dict(wanted.custom)}
    return options if wanted.memory_gb is None else options | {"memory": int(wanted.memory_gb * 1e9)}


def _temp_dir() -> dict[str, str]:
    """Where a cluster that is started here keeps its files: a long TMPDIR leaves no room for its sockets' paths."""
    is_long = len(os.fsencode(tempfile.gettempdir())) > _LONGEST_TEMP_DIR
    return {"_temp_dir": "/tmp/ray"} if is_long and "RAY_TMPDIR" not in os.environ else {}  # noqa: S108 # as Ray's own


def _runtime_env(runner: RayRunner) -> dict[str, Any] | None:
    import starsearch

    shipped = {"py_modules": [os.path.dirname(starsearch.__file__)]} if runner.ship_code else {}  # noqa: PTH120
    return {**shipped, **runner.runtime_env} or None


def _shown(resources: Mapping[str, float]) -> dict[str, float]:
    """Of a node's resources, what a user asks for."""
    return {
        name: amount
        for name, amount in resources.items()
        if not name.startswith(("node:", "object_store", "accelerator_type"))
    }


def _in_words(resources: Mapping[str, float]) -> str:
    def amount(name: str, value: float) -> str:
        return f"{value / 1e9:.1f} GB memory" if name == "memory" else f"{value:g} {name}"

    parts: Sequence[str] = [amount(name, value) for name, value in resources.items()]
    return ", ".join(parts) or "nothing"
