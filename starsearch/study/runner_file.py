"""Runner files: where a study's evaluations run."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from starsearch.errors import SpecError
from starsearch.resources import find_file
from starsearch.study.space_file import check_known
from starsearch.study.validation import Document, apply_settings, broken, shorten, validate
from starsearch.yaml_file import read_yaml

_RAYS_OWN = {"CPU": "cpu", "GPU": "gpu", "memory": "memory_gb", "object_store_memory": "nothing"}


def _whole_gpus(gpu: float) -> float:
    if gpu > 1 and gpu != int(gpu):
        raise broken(f"a share of one GPU, or whole GPUs; got {gpu:g}.")
    return gpu


def _custom(name: str) -> str:
    if name in _RAYS_OWN:
        raise broken(f"{name} is Ray's own; say it as {_RAYS_OWN[name]}.")
    return name


def _reachable(address: str) -> str:
    if address.startswith("ray://"):
        raise broken(
            "not through Ray Client, which cannot stream what evaluations report. Run starsearch on a node of the "
            "cluster with `address: auto`, or submit it there: ray job submit -- starsearch run …"
        )
    return address


def _env_of_texts(env: dict[str, Any]) -> dict[str, Any]:
    for name, value in dict(env.get("env_vars") or {}).items():
        if not isinstance(value, str):
            raise broken(f"a text is needed, in quotes; got {value!r}.", "env_vars", name)
    return env


Limit = Annotated[float, Field(gt=0)] | None
Tries = Annotated[int, Field(ge=1, le=100)]
CustomName = Annotated[str, AfterValidator(_custom)]


class TaskResources(Document):
    """What one evaluation takes of a node; Ray places it where that is free.

    Attributes:
        cpu: cores; the training's threads follow it.
        gpu: GPUs, or a share of one.
        memory_gb: main memory in 10⁹ bytes; None leaves it open.
    """

    cpu: Annotated[float, Field(gt=0, le=4096)] = 1.0
    gpu: Annotated[float, Field(ge=0, le=64), AfterValidator(_whole_gpus)] = 0.0
    memory_gb: Limit = None
    custom: dict[CustomName, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)


class RayRunner(Document):
    """Tasks of a Ray cluster.

    Attributes:
        address: "local" starts a cluster on this machine for the run; "auto" is the one that runs here; HOST:PORT is
            that head's. None is RAY_ADDRESS where that is set, else "local".
        resources: what one evaluation takes.
        fidelities: the same for single fidelities, by name.
        workers: evaluations at a time, also more than fit now (a cluster that scales by demand); None for what fits.
        device: custom resource of the nodes that are the device `this-machine` means; latency is measured there, one
            network at a time. Needed where the cluster is not this machine alone.
        time_limit_s: seconds after which an evaluation is ended and its candidate fails; None for no limit.
        tries: how often a candidate is begun whose worker or node dies.
        ship_code: whether starsearch itself is sent to the nodes; else it is installed there.
        runtime_env: Ray's runtime environment of the workers (pip, env_vars, …).
        wait_s: seconds to wait for a node that can run an evaluation, before the run is given up.
    """

    executor: Literal["ray"] = "ray"
    address: Annotated[str, AfterValidator(_reachable)] | None = None
    resources: TaskResources = TaskResources()
    fidelities: dict[str, TaskResources] = Field(default_factory=dict)
    workers: Annotated[int | None, Field(ge=1, le=100_000)] = None
    device: CustomName | None = None
    time_limit_s: Limit = None
    tries: Tries = 3
    ship_code: bool = False
    runtime_env: Annotated[dict[str, Any], AfterValidator(_env_of_texts)] = Field(default_factory=dict)
    wait_s: Annotated[float, Field(ge=0)] = 30.0

    def resources_of(self, fidelity: str) -> TaskResources:
        """What an evaluation at the fidelity of this name takes."""
        return self.fidelities.get(fidelity, self.resources)

    def has_gpu(self, fidelity: str) -> bool:
        """Whether an evaluation at the fidelity of this name has a GPU, or a share of one."""
        return self.resources_of(fidelity).gpu > 0


class LocalRunner(Document):
    """This machine: one worker is this process, several are Ray's, started for the run.

    Attributes:
        workers: evaluations at a time.
        threads: threads of a worker's training; None shares all cores among the workers.
        time_limit_s, tries: as of a `RayRunner`.
    """

    executor: Literal["local"] = "local"
    workers: Annotated[int, Field(ge=1, le=1024)] = 1
    threads: Annotated[int | None, Field(ge=1, le=1024)] = None
    time_limit_s: Limit = None
    tries: Tries = 3

    @property
    def is_this_process(self) -> bool:
        """Whether evaluations run in this process, where none can be ended and threads are the user's."""
        return self.workers == 1 and self.time_limit_s is None and self.threads is None

    def on_ray(self) -> RayRunner:
        """A cluster of this machine on which exactly `workers` evaluations fit, sharing its cores and GPUs."""
        import torch

        cores = os.cpu_count() or 1
        threads = self.threads or max(1, cores // self.workers)
        is_said = self.threads is not None or "OMP_NUM_THREADS" not in os.environ
        gpus = torch.cuda.device_count() / self.workers
        return RayRunner(
            address="local",
            resources=TaskResources(
                cpu=min(1.0, _floored(cores / self.workers)), gpu=float(int(gpus)) if gpus > 1 else _floored(gpus)
            ),
            workers=self.workers,
            time_limit_s=self.time_limit_s,
            tries=self.tries,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(threads)}} if is_said else {},
        )

    def has_gpu(self, fidelity: str) -> bool:  # noqa: ARG002 — as of a `RayRunner`
        """Whether an evaluation has a GPU, or a share of one."""
        import torch

        return torch.cuda.is_available()


Runner = Annotated[LocalRunner | RayRunner, Field(discriminator="executor")]
_RUNNERS: dict[str, type[LocalRunner | RayRunner]] = {"local": LocalRunner, "ray": RayRunner}


def _floored(amount: float) -> float:
    """`amount` in Ray's precision, so that all shares together are not more than there is."""
    return math.floor(amount * 1e4) / 1e4


def load_runner(text: str | None, settings: Sequence[str] = ()) -> Runner:
    """Return the runner of a file or shipped name; None is Ray where RAY_ADDRESS is set, else this process."""
    if text is None:
        if settings:
            raise SpecError(f"--set runner.{settings[0]} changes a runner file; name one with --runner.")
        return RayRunner() if os.environ.get("RAY_ADDRESS") else LocalRunner()
    file = apply_settings(read_yaml(find_file(text, "runners")), settings)
    if not isinstance(file.data, Mapping):
        raise file.error(
            (), f"a runner is a mapping of keys, as `workers: 4` or `executor: ray`; got {shorten(file.data)}."
        )
    name = str(file.data.get("executor", "local"))
    check_known(file, ("executor",), "executor", name, tuple(_RUNNERS))
    return validate(_RUNNERS[name], file.data, file=file)
