"""Small studies whose evaluation costs nothing, for tests of the driver and the records."""

from contextlib import closing
from pathlib import Path

from starsearch.candidate import Candidate
from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.objective import Constraint, Objective
from starsearch.progress import Progress
from starsearch.recipe import Fidelity, Recipe
from starsearch.records.record import StudyRecord
from starsearch.search.driver import run_study
from starsearch.search.executor import LocalExecutor
from starsearch.study.space_file import parse_space
from starsearch.study.spec import StudySpec
from starsearch.yaml_file import parse_yaml

# 3 × 2 × 2 = 12 architectures, S1 among them.
TWELVE = """
dimensions:
  embed_dim: {low: 16, high: 32, step: 8}
  ops: [star, sum]
  kernel_size: [5, 7]
anchors: [starnet_s1]
"""
WIDE = """
dimensions:
  embed_dim: {low: 16, high: 48, step: 4}
  depths: [{low: 1, high: 4}, {low: 1, high: 4}, {low: 2, high: 12}, {low: 1, high: 6}]
  ops: {each: [star, sum]}
  mlp_ratio: {low: 2, high: 6}
constraints:
  macs: {max: 0.7e9}
anchors: [starnet_s1, starnet_s2]
"""
# Few dimensions, or the Gaussian process takes seconds for each suggestion.
NARROW = """
dimensions:
  embed_dim: {low: 16, high: 48, step: 4}
  depths: [1, 2, {low: 4, high: 8}, 2]
  mlp_ratio: {low: 3, high: 5}
constraints:
  macs: {max: 0.7e9}
anchors: [starnet_s2]
"""
OBJECTIVES = (
    Objective(name="top1_percent", direction="maximize"),
    Objective(name="latency_ms", direction="minimize", device="a device"),
)


def make_spec(space=TWELVE, **changes):
    values = {
        "name": "small",
        "space": parse_space(parse_yaml(space, Path("small.yaml"))),
        "data": "none",
        "recipe": Recipe(),
        "fidelity": Fidelity(),
        "objectives": OBJECTIVES,
        "constraints": (Constraint(name="latency_ms", high=8.0),),
        "trials": 6,
    }
    return StudySpec(**{**values, **changes})


def url_of(place):
    """The address of the study in a folder, or an address itself."""
    return place if "://" in str(place) else f"sqlite:///{place}/study.db"


def measure(candidate: Candidate):
    """Wider and deeper is better and slower; a sum is worse and a little faster."""
    architecture = candidate.architecture
    macs = count_macs(architecture, resolution=224)
    stars = sum(op == "star" for op in architecture.ops)
    return (
        Measurement(name="top1_percent", value=40 + 10 * (macs / 1e9) ** 0.5 + stars),
        Measurement(name="latency_ms", value=macs / 1e8 + 0.1 * stars, runs=20, spread=0.05, device="a device"),
        Measurement(name="macs", value=macs),
    )


class FakeEvaluator:
    """Measures at once, remembers what it was asked for, and does what `misbehave` says before."""

    def __init__(self, misbehave=lambda candidate: None):
        self.asked = []
        self._misbehave = misbehave

    def __call__(self, candidate, *, seed, weights, part=None):
        self.asked.append(candidate.key)
        yield Progress(fraction=0.5, stage="training", epoch=1, values={"top1_percent": 50.0})
        self._misbehave(candidate)
        if weights is not None:
            weights.write_text(candidate.key)
        return measure(candidate)


def opened(folder, spec):
    """The record of the study in `folder`, to be closed again."""
    return closing(StudyRecord.open(url_of(folder), spec))


def run(place, spec, evaluator=None, make_executor=LocalExecutor, **options):
    """Open the study in a folder, or at an address, run it, close it."""
    folder = None if place == url_of(place) else place
    with opened(place, spec) as record:
        return run_study(spec, record, make_executor(evaluator or FakeEvaluator()), **{"folder": folder, **options})
