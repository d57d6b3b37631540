"""Where a study is evaluated, as its runner says, and which of its latencies are measured on this machine."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar, cast

from starsearch.errors import BackendError, StudyError
from starsearch.evaluators import ProxyEvaluator
from starsearch.evaluators.evaluator import Evaluator
from starsearch.evaluators.latency import LatencyEvaluator, measure_latency
from starsearch.latency.backends.backend import BACKENDS, BackendOptions, open_backend
from starsearch.latency.device import device_fingerprint
from starsearch.latency.prediction.profile import DeviceProfile
from starsearch.objective import device_label, is_latency
from starsearch.search.executor import Executor, LocalExecutor
from starsearch.search.front import Meter
from starsearch.search.ray_cluster import ask_node
from starsearch.search.ray_executor import RayExecutor, Requirements, Stage, host_identity
from starsearch.study.runner_file import LocalRunner, Runner, TaskResources
from starsearch.study.spec import StudySpec

T = TypeVar("T")


class Workplace:
    """What a runner names, connected once an evaluation fits there.

    It makes a study's executor, and knows the machine that `this-machine` means.
    """

    def __init__(self, runner: Runner, spec: StudySpec, folder: Path) -> None:
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

    def make_executor(self, evaluator: Evaluator) -> Executor:
        """What runs the evaluations; with a device, latencies are a stage of their own on its nodes, the first."""
        if self._runner is None:
            return LocalExecutor(evaluator)

        timing: LatencyEvaluator | None = getattr(evaluator, "timing", None)  # a user's own evaluator has none,
        int8 = getattr(evaluator, "int8", False)  # nor that
        timed = timing is not None and timing.timed
        if self._on_device is not None and int8:
            raise StudyError(
                "int8 latency and accuracy are measured with the trained weights, by the workers of this machine, but "
                "the runner file names a device. Leave them out of the objectives, or run here."
            )
        here = host_identity() if (timed or int8) and self._on_device is None else None
        anywhere = Requirements(folder=str(self._folder), host=here)
        if timing is None or not timed or self._on_device is None:
            return RayExecutor(
                self._runner, Stage(evaluator=evaluator, resources=self._resources, requirements=anywhere)
            )
        evaluator = cast("ProxyEvaluator", evaluator)
        # The machine of the study's scale, not the one that would answer now: a resumed study is older than this run.
        on_device = replace(anywhere, device=timing.reference.device.text)
        self.ask_device(partial(on_device.check, timing))  # before hours of training
        trains = replace(evaluator, timing=None)
        return RayExecutor(
            self._runner,
            Stage(evaluator=timing, resources=self._on_device, requirements=on_device),
            Stage(evaluator=trains, resources=self._resources, requirements=anywhere),
        )

    def close(self) -> None:
        """Disconnect from the cluster; one that was started here ends."""
        self._held.close()

    def ask_device(self, ask: Callable[[], T]) -> T:
        """Return what `ask` returns on the machine whose latency is measured."""
        if self._runner is None or self._on_device is None:
            return ask()

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


def timed_quantities(spec: StudySpec) -> tuple[str, ...]:
    """Return the names of the latencies that are measured on this machine in every trial."""
    return tuple(name for name in spec.quantities if is_latency(name) and name not in spec.profiles)


def wants_int8(spec: StudySpec) -> bool:
    """Whether the study is about the networks made int8."""
    return any(name.startswith("int8_") for name in spec.quantities)


def wants_placement(spec: StudySpec) -> bool:
    """Whether Core ML is asked where it would run the networks."""
    return "coreml_cpu_percent" in spec.quantities


def check_machine(spec: StudySpec) -> None:
    """Refuse a study with a quantity that this machine cannot measure, before anything is evaluated."""
    if not wants_placement(spec):
        return
    from starsearch.latency.backends.coreml import Mac

    if (missing := Mac(BackendOptions()).missing_for_placement()) is not None:
        raise BackendError(f"coreml_cpu_percent is Core ML's own estimate, on a Mac. {missing}")


def warn_of_other_resolutions(spec: StudySpec) -> None:
    """Warn of each profile that was fitted to networks at another resolution than the study's are deployed at."""
    resolution = spec.space.resolution
    for name, profile in spec.profiles.items():
        if profile.resolution != resolution:
            warnings.warn(
                f"{name} is predicted at {resolution} px from the profile {profile.name!r}, which was fitted to "
                f"networks at {profile.resolution} px: its 90 % interval is not calibrated there, and errors may be "
                f"larger. Fit a profile to a space of {resolution} px: starsearch latency fit --space SPACE.yaml.",
                stacklevel=2,
            )


def front_meters(spec: StudySpec, *, num_classes: int, study: str) -> dict[str, Meter]:
    """Return what measures the front's members on this machine, by quantity, on its profile's scale.

    Warns of each profile that is not this machine's: what was predicted from it stays predicted. `study` is as a
    command names it.
    """
    meters: dict[str, Meter] = {}
    for name, profile in spec.profiles.items():
        if (why := _why_not_here(profile)) is not None:
            # Without a scale there is nothing to check against.
            check = "" if profile.reference is None else (
                "If it is meant to be this machine, ask `starsearch latency check "
                f"{spec.profile_files.get(name, profile.name)}`; else "
            )  # fmt: skip
            measure = "measure" if check else "Measure"
            warnings.warn(
                f"{name} is predicted from the profile {profile.name!r} and stays so on the front: {why}. {check}"
                f"{measure} the front's networks there and add them with `starsearch latency import {study} FILE.csv "
                f"--device {device_label(name) or profile.name}`. {profile.note}".rstrip(),
                stacklevel=2,
            )
            continue
        assert profile.reference is not None
        meters[name] = partial(
            measure_latency,
            name=name,
            reference=profile.reference,
            resolution=spec.space.resolution,
            num_classes=num_classes,
            seed=spec.seed,
            backend=profile.backend,
        )
    return meters


def _why_not_here(profile: DeviceProfile) -> str | None:
    """Why nothing can be measured on this machine on the scale of `profile`; None where it can."""
    try:
        here = (
            open_backend(profile.backend, BackendOptions.of_device(profile.device)).describe_device()
            if profile.backend in BACKENDS
            else device_fingerprint()
        )
    except BackendError as error:
        return str(error)
    if differences := profile.device.differences(here):
        return f"it is of another device than this, the profile's against this one's: {'; '.join(differences)}"
    return None if profile.reference else "it was not measured in pairs with the reference network, so it has no scale"
