"""Runner files: where a study's evaluations run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Gt, Le

from starsearch.errors import SpecError, did_you_mean
from starsearch.resources import find_file
from starsearch.study.settings import apply_settings
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import YamlFile, read_yaml

EXECUTORS = ("local", "ray")
_RAYS_OWN = {"CPU": "cpu", "GPU": "gpu", "memory": "memory_gb", "object_store_memory": "nothing"}


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRunner:
    """Worker processes of this machine.

    Attributes:
        executor: "local".
        workers: how many candidates are evaluated at a time; 1 is done in the process of `starsearch run` itself.
        threads: of the processor a worker's training takes; None shares all cores among the workers.
        time_limit_s: seconds after which an evaluation is ended and its candidate fails; None for no limit.
        tries: of a candidate whose worker dies.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    executor: Literal["local"] = "local"
    workers: Annotated[int, Ge(1), Le(1024)] = 1
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    time_limit_s: Annotated[float, Gt(0)] | None = None
    tries: Annotated[int, Ge(1), Le(100)] = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResources:
    """What one evaluation takes of a node; Ray places it where that is free.

    Attributes:
        cpu: cores; the training's threads follow it.
        gpu: GPUs, or a share of one.
        memory_gb: of main memory, in 10⁹ bytes; None leaves it open.
        custom: Ray's custom resources, by name.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    cpu: Annotated[float, Gt(0), Le(4096)] = 1.0
    gpu: Annotated[float, Ge(0), Le(64)] = 0.0
    memory_gb: Annotated[float, Gt(0)] | None = None
    custom: Mapping[str, Annotated[float, Gt(0)]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RayRunner:
    """Tasks of a Ray cluster.

    Attributes:
        executor: "ray".
        address: "local" starts a cluster on this machine for the time of the run; "auto" is the one that runs here;
            HOST:PORT is that head's. None is RAY_ADDRESS where that is set, else "local".
        resources: what one evaluation takes.
        fidelities: the same for single fidelities, by name.
        workers: evaluations at a time, also more than fit now (a cluster that scales by demand); None for what fits.
        device: custom resource of the nodes that are the device `this-machine` means; latency is measured there,
            one network at a time. Needed where the cluster is not this machine alone.
        time_limit_s: seconds after which an evaluation is ended and its candidate fails; None for no limit.
        tries: of a candidate whose worker or node dies.
        ship_code: whether starsearch itself is sent to the nodes; else it is installed there.
        runtime_env: Ray's runtime environment of the workers (pip, env_vars, …).
        wait_s: seconds to wait for a node that can run an evaluation, before the run is given up.
    """

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}

    executor: Literal["ray"] = "ray"
    address: str | None = None
    resources: TaskResources = field(default_factory=TaskResources)
    fidelities: Mapping[str, TaskResources] = field(default_factory=dict)
    workers: Annotated[int, Ge(1), Le(100_000)] | None = None
    device: str | None = None
    time_limit_s: Annotated[float, Gt(0)] | None = None
    tries: Annotated[int, Ge(1), Le(100)] = 3
    ship_code: bool = False
    runtime_env: Mapping[str, Any] = field(default_factory=dict)
    wait_s: Annotated[float, Ge(0)] = 30.0

    def resources_of(self, fidelity: str) -> TaskResources:
        """What an evaluation at the fidelity of this name takes."""
        return self.fidelities.get(fidelity, self.resources)


Runner = LocalRunner | RayRunner


def load_runner(text: str | None, settings: Sequence[str] = ()) -> Runner:
    """The runner of a file or shipped name; None is Ray where RAY_ADDRESS is set, else this process.

    Args:
        text: a file, or a shipped runner's name.
        settings: "KEY=VALUE", changes of single values in the file.

    Raises:
        SpecError: no such runner, or a rule is broken.
    """
    if text is None:
        if settings:
            raise SpecError(f"--set runner.{settings[0]} changes a runner file; name one with --runner.")
        return RayRunner() if os.environ.get("RAY_ADDRESS") else LocalRunner()
    file = apply_settings(read_yaml(find_file(text, "runners")), settings)
    if not isinstance(file.data, Mapping):
        raise file.error((), f"a runner is a mapping with the key 'executor'; got {shorten(file.data)}.")
    name = file.data.get("executor", "local")
    if name == "local":
        return validate(LocalRunner, file.data, file=file)
    if name == "ray":
        return _parse_ray(file)
    known = f"{did_you_mean(str(name), EXECUTORS)} Known: {', '.join(EXECUTORS)}."
    raise file.error(("executor",), f"unknown executor {shorten(name)}.{known}")


def _check_resources(file: YamlFile, runner: RayRunner) -> None:
    """Ray's own rules, which it tells of when a task is submitted."""
    for at, wanted in (
        (("resources",), runner.resources),
        *((("fidelities", n), r) for n, r in runner.fidelities.items()),
    ):
        if wanted.gpu > 1 and wanted.gpu != int(wanted.gpu):
            raise file.error((*at, "gpu"), f"a share of one GPU, or whole GPUs; got {wanted.gpu:g}.")
        for name in wanted.custom:
            if name in _RAYS_OWN:
                raise file.error((*at, "custom", name), f"{name} is Ray's own; say it as {_RAYS_OWN[name]}.")
    if runner.device in _RAYS_OWN:
        raise file.error(("device",), f"{runner.device} is Ray's own; name a custom resource of the device's nodes.")
    for name, value in dict(runner.runtime_env.get("env_vars") or {}).items():
        if not isinstance(value, str):
            raise file.error(("runtime_env", "env_vars", name), f"a text is needed, in quotes; got {value!r}.")


def _parse_ray(file: YamlFile) -> RayRunner:
    runner: RayRunner = validate(RayRunner, file.data, file=file)
    _check_resources(file, runner)
    if runner.address is not None and runner.address.startswith("ray://"):
        raise file.error(
            ("address",),
            f"Ray Client ({runner.address}) cannot stream what evaluations say. Run starsearch on a node of the "
            "cluster with `address: auto`, or submit it there: ray job submit -- starsearch run …",
        )
    return runner
