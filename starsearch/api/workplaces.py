"""Where a study is evaluated: this process or a Ray cluster, as its runner says."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from starsearch.errors import StudyError
from starsearch.search.executor import LocalExecutor
from starsearch.study.runner_file import LocalRunner, Runner, TaskResources

if TYPE_CHECKING:
    from starsearch.evaluators import ProxyEvaluator
    from starsearch.evaluators.evaluator import Evaluator
    from starsearch.latency.reference import Reference
    from starsearch.search.executor import Executor
    from starsearch.study.spec import StudySpec

T = TypeVar("T")


class Workplace:
    """What a runner names, connected once an evaluation fits there.

    It makes a study's executor, and knows the machine that `this-machine` means.
    """

    def __init__(self, runner: Runner, spec: StudySpec, folder: Path) -> None:
        self.tries = runner.tries
        self._folder = folder
        self._held = ExitStack()
        self._runner = None
        if isinstance(runner, LocalRunner):
            if runner.is_this_process:
                return
            runner = runner.on_ray()
        from starsearch.search.ray_cluster import connected, wait_for_room

        self._runner = runner
        self._resources = runner.resources_of(spec.fidelity.name)
        # A node that is the device carries 1 of its resource: one measurement at a time.
        self._on_device = TaskResources(cpu=1, custom={runner.device: 1.0}) if runner.device else None
        with ExitStack() as held:
            held.enter_context(connected(runner))
            for wanted in (self._resources, self._on_device):
                if wanted is not None:
                    wait_for_room(wanted, runner)
            self._held = held.pop_all()

    def device(self) -> str:
        """The machine whose latency is measured, in words."""
        from starsearch.latency.device import device_fingerprint

        return self._ask_device(lambda: device_fingerprint().text)

    def calibrate(self) -> Reference:
        """Measure the latency scale of that machine now."""
        from starsearch.latency.reference import calibrate_reference

        return self._ask_device(calibrate_reference)

    def make_executor(self, evaluator: Evaluator) -> Executor:
        """What runs the evaluations; with a device, latencies are a stage of their own on its nodes."""
        if self._runner is None:
            return LocalExecutor(evaluator)
        from starsearch.search.ray_executor import RayExecutor, Requirements, Stage, host_identity

        timed, int8 = getattr(evaluator, "timed", ()), getattr(evaluator, "int8", False)  # a user's own has neither
        if self._on_device is not None and int8:
            raise StudyError(
                "int8 latency and accuracy are measured with the trained weights, by the workers of this machine, but "
                "the runner file names a device. Leave them out of the objectives, or run here."
            )
        here = host_identity() if (timed or int8) and self._on_device is None else None
        anywhere = Requirements(folder=str(self._folder), host=here)
        if not timed or self._on_device is None:
            return RayExecutor(
                self._runner, Stage(evaluator=evaluator, resources=self._resources, requirements=anywhere)
            )
        evaluator = cast("ProxyEvaluator", evaluator)
        assert evaluator.reference is not None
        # The machine of the study's scale, not the one that would answer now: a resumed study is older than this run.
        on_device = replace(anywhere, device=evaluator.reference.device.text)
        timing = evaluator.only_timing()
        self._ask_device(partial(on_device.check, timing))  # before hours of training
        trains = replace(evaluator, timed=(), reference=None)
        return RayExecutor(
            self._runner,
            Stage(evaluator=trains, resources=self._resources, requirements=anywhere),
            Stage(evaluator=timing, resources=self._on_device, requirements=on_device),
        )

    def close(self) -> None:
        """Disconnect from the cluster; one that was started here ends."""
        self._held.close()

    def _ask_device(self, ask: Callable[[], T]) -> T:
        if self._runner is None or self._on_device is None:
            return ask()
        from starsearch.search.ray_cluster import ask_node

        return ask_node(ask, self._on_device)


def warn_of_unknown_fidelities(runner: Runner, specs: Sequence[StudySpec]) -> None:
    """Warn that a runner names fidelities which the study does not have: a name may be misspelt."""
    names = [spec.fidelity.name for spec in specs]
    unknown = [name for name in getattr(runner, "fidelities", ()) if name not in names]
    if unknown:
        warnings.warn(
            f"The runner's fidelities {', '.join(unknown)} are none of the study's ({', '.join(names)}): these take "
            "its `resources`.",
            stacklevel=2,
        )
