"""What the benchmarks of this folder search: networks whose evaluation costs as long as they are told to."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.progress import Progress
from starsearch.records.record import StudyRecord
from starsearch.search.driver import run_study
from starsearch.search.executor import LocalExecutor
from starsearch.study.study_file import load_study

EPOCHS = 3


def judge(candidate):
    """Something to trade off, at the cost of nothing: depth and stars against multiply-adds."""
    network = candidate.architecture
    top1 = 40.0 + sum(network.depths) + sum(op == "star" for op in network.ops)
    latency_ms = count_macs(network, resolution=224) / 1e8
    return (
        Measurement(name="top1_percent", value=top1),
        Measurement(name="latency_ms", value=latency_ms, runs=20, device="none"),
    )


def epochs(readings):
    """What a training of three epochs tells after each."""
    for epoch in range(1, EPOCHS + 1):
        values = {"top1_percent": readings[0].value}
        yield Progress(fraction=epoch / EPOCHS, stage="training", epoch=epoch, values=values)


@dataclass(frozen=True)
class Sleeper:
    """An evaluation of three epochs that takes `seconds`, most of them asleep; `folder` gets a note of each."""

    seconds: float = 0.0
    folder: str | None = None

    def __call__(self, candidate, *, seed, weights, part):
        if self.folder is not None:
            Path(self.folder, f"{candidate.key}-{os.getpid()}").touch()
        readings = judge(candidate)
        for progress in epochs(readings) if self.seconds else ():
            time.sleep(self.seconds / EPOCHS)
            yield progress
        return readings


def make_spec(name, trials, **changes):
    """spaces/starnet.yaml without anchors."""
    spec = load_study("starnet", name=name, trials=trials)
    return replace(spec, space=replace(spec.space, anchors=()), keep_weights="none", **changes)


def run(url, spec, evaluator, make_executor=None, **options):
    """Open the study, run it, close it."""
    executor = make_executor(evaluator) if make_executor else nullcontext(LocalExecutor(evaluator))
    with closing(StudyRecord.open(url, spec)) as record, executor as opened:
        return run_study(spec, record, opened, **options)


@contextmanager
def cluster(nodes=2, cpus=2):
    """A head that computes nothing, and nodes, all on this machine."""
    os.environ["RAY_AUTH_MODE"] = "disabled"
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(nodes):
            found.add_node(num_cpus=cpus)
        found.wait_for_nodes()
        yield found
    finally:
        found.shutdown()


def ray_executor(address, folder):
    """Makes a `RayExecutor` on the cluster at this address, or the one this process is connected to."""
    import ray

    from starsearch.search.ray_cluster import connected
    from starsearch.search.ray_executor import RayExecutor, Requirements, Stage
    from starsearch.study.runner_file import RayRunner

    runner = RayRunner(address=address)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # workers do not see this file

    @contextmanager
    def make(evaluator):
        requirements = Requirements(folder=str(folder))
        stage = Stage(evaluator=evaluator, resources=runner.resources, requirements=requirements)
        with nullcontext() if ray.is_initialized() else connected(runner):
            yield RayExecutor(runner, stage)

    return make
