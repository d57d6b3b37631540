"""Where a study is evaluated: this process, worker processes, or a Ray cluster, as a runner says."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from starsearch.errors import StudyError
from starsearch.study.runner_file import LocalRunner, RayRunner, Runner, TaskResources

if TYPE_CHECKING:
    from starsearch.evaluators import ProxyEvaluator
    from starsearch.latency import Reference
    from starsearch.search import Executor
    from starsearch.study.spec import StudySpec


class Workplace(Protocol):
    """Makes a study's executor, and knows the machine that `this-machine` is there."""

    tries: int

    def device(self) -> str:
        """The machine whose latency is measured, in words."""
        ...

    def calibrate(self) -> Reference:
        """The latency scale of that machine, measured now."""
        ...

    def make_executor(self, evaluator: ProxyEvaluator) -> Executor:
        """What runs the evaluations.

        Raises:
            StudyError: they cannot run there; the text says why.
        """
        ...

    def close(self) -> None:
        """Give back what was taken."""
        ...


def open_workplace(runner: Runner, spec: StudySpec, folder: Path) -> Workplace:
    """The workplace of a runner.

    Raises:
        StudyError: a cluster cannot be reached, or has no room for an evaluation.
    """
    if isinstance(runner, RayRunner):
        return _RayPlace(runner, spec, folder)
    return _LocalPlace(runner)


class _LocalPlace:
    """This machine."""

    def __init__(self, runner: LocalRunner) -> None:
        self._runner = runner
        self.tries = runner.tries

    def device(self) -> str:
        from starsearch.latency import device_fingerprint

        return device_fingerprint().text

    def calibrate(self) -> Reference:
        from starsearch.latency import calibrate_reference

        return calibrate_reference()

    def make_executor(self, evaluator: ProxyEvaluator) -> Executor:
        from starsearch.search import LocalExecutor

        runner = self._runner
        if runner.workers == 1 and runner.time_limit_s is None and runner.threads is None:
            return LocalExecutor(evaluator)
        from starsearch.search.processes import ProcessExecutor

        return ProcessExecutor(
            evaluator, workers=runner.workers, threads=runner.threads, time_limit_s=runner.time_limit_s
        )

    def close(self) -> None:
        """Nothing was taken."""


class _RayPlace:
    """A Ray cluster."""

    def __init__(self, runner: RayRunner, spec: StudySpec, folder: Path) -> None:
        from starsearch.search.ray_cluster import RayCluster

        self.tries = runner.tries
        self._runner = runner
        self._folder = folder
        self._resources = runner.resources_of(spec.fidelity.name)
        self._cluster = RayCluster(runner)
        try:
            self._cluster.wait_for(self._resources)
            if runner.device is not None:
                self._cluster.wait_for_device(runner.device, self._on_device)
        except BaseException:
            self._cluster.close()
            raise

    @property
    def _on_device(self) -> TaskResources:
        """One measurement at a time: all of the resource that one node has is taken by convention of 1."""
        assert self._runner.device is not None
        return TaskResources(cpu=1, custom={self._runner.device: 1.0})

    def device(self) -> str:
        from starsearch.latency import device_fingerprint

        if self._runner.device is None:
            return device_fingerprint().text
        return self._cluster.ask_there(lambda: device_fingerprint().text, self._on_device)

    def calibrate(self) -> Reference:
        from starsearch.latency import calibrate_reference

        if self._runner.device is None:
            return calibrate_reference()
        return self._cluster.ask_there(calibrate_reference, self._on_device)

    def make_executor(self, evaluator: ProxyEvaluator) -> Executor:
        import ray

        from starsearch.search.ray_executor import Afterwards, Demands, RayExecutor
        from starsearch.search.ray_nodes import host_identity, versions

        sent = ray.put(evaluator)
        hosts = self._cluster.look_over(self._resources, evaluator=sent, folder=self._folder)
        # Of the scale, not of whoever would answer now: a resumed study's is older than this run.
        device = evaluator.reference.device.text if evaluator.timed and evaluator.reference is not None else None
        if self._runner.device is not None:
            self._cluster.look_over(self._on_device, evaluator=sent, folder=self._folder, device=device)
        afterwards = None
        times_here = bool(evaluator.timed or evaluator.int8) and self._runner.device is None
        demands = Demands(versions=versions(), folder=str(self._folder), host=host_identity() if times_here else None)
        if evaluator.timed or evaluator.int8:
            refuse_foreign_latency(hosts, device=self._runner.device, int8=evaluator.int8)
        if evaluator.timed and self._runner.device is not None:
            afterwards = Afterwards(
                evaluator=evaluator.only_timing(),
                resources=self._on_device,
                demands=replace(demands, device=device),
            )
            evaluator = replace(evaluator, timed=(), reference=None)
        return RayExecutor(
            evaluator,
            cluster=self._cluster,
            resources=self._resources,
            workers=self._runner.workers,
            time_limit_s=self._runner.time_limit_s,
            afterwards=afterwards,
            demands=demands,
        )

    def close(self) -> None:
        self._cluster.close()


def warn_of_unknown_fidelities(runner: Runner, specs: Sequence[StudySpec]) -> None:
    """Say that a runner names fidelities which the study does not have: a name may be misspelt."""
    names = [spec.fidelity.name for spec in specs]
    unknown = [name for name in getattr(runner, "fidelities", ()) if name not in names]
    if unknown:
        warnings.warn(
            f"The runner's fidelities {', '.join(unknown)} are none of the study's ({', '.join(names)}): these take "
            "its `resources`.",
            stacklevel=2,
        )


def refuse_foreign_latency(hosts: Sequence[str], *, device: str | None, int8: bool) -> None:
    """Latency of `this-machine` is measured on it alone: all workers are here, or a node is said to be the device.

    Args:
        hosts: identities of the machines that evaluate.
        device: custom resource of the nodes that are the device; None where nothing is said.
        int8: whether int8 networks are timed as well.

    Raises:
        StudyError: workers elsewhere would time it.
    """
    from starsearch.search.ray_nodes import host_identity

    if all(host == host_identity() for host in hosts) and device is None:
        return
    if int8:
        raise StudyError(
            "int8 latency and accuracy are measured with the trained weights, by the workers of this machine; the "
            "cluster has nodes on others, or the runner file a device. Leave them out of the objectives, or run here."
        )
    if device is None:
        raise StudyError(
            "latency_ms is measured on this-machine, but the cluster has nodes on other machines. Say in the runner "
            "file which custom resource marks the device (device: NAME, and `ray start --resources "
            "'{\"NAME\": 1}'` there), or predict it from a profile (latency_ms: {device: PROFILE.yaml})."
        )
