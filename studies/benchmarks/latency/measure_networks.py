"""Measures the random networks that `prediction.py` learns from and is judged on; goes on where it was interrupted.

    python studies/benchmarks/latency/measure_networks.py --space starnet [--threads 1] [--chosen 50] [--random 100]
        [--held-out 120]

Three sets, disjoint, seeds fixed: `chosen` as `starsearch latency fit` chooses them, `random` and `held-out` drawn at
random from the space. The held-out ones are measured with 40 pairs, the others as `fit` measures them, all on the scale
of one calibration. Written: SPACE-THREADS-thread-SET.csv. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from starsearch.families.family import Architecture
from starsearch.families.text import format_architecture
from starsearch.latency.backends.backend import BackendOptions
from starsearch.latency.device import vector_width
from starsearch.latency.measure import MeasureSpec
from starsearch.latency.paired import PairLimits
from starsearch.latency.prediction.calibration import LIMITS, CalibrationLog, choose_networks, measure_networks
from starsearch.latency.prediction.imported import save_samples
from starsearch.progress import follow
from starsearch.resources import find_file
from starsearch.study.space_file import load_space

HELD_OUT = PairLimits(min_pairs=40, max_pairs=40, half_width=0.0)
SEEDS = {"chosen": 0, "random": 101, "held-out": 202}
HERE = Path(__file__).parent


def draw_sets(space_name: str, counts: dict[str, int]) -> dict[str, list[Architecture]]:
    """The networks of each set; none stands in two."""
    space = load_space(find_file(space_name, "spaces"))
    seen: set[Architecture] = set()
    sets: dict[str, list[Architecture]] = {}
    for name in ("held-out", "chosen", "random"):
        drawn = (a for a in space.sample_architectures(1_000_000, SEEDS[name]) if a not in seen)
        if name == "chosen":
            sets[name] = choose_networks(drawn, counts[name], resolution=space.resolution, vector_width=vector_width())
        else:
            sets[name] = [a for a, _ in zip(drawn, range(counts[name]), strict=False)]
        seen |= set(sets[name])
    return sets


def measure_set(
    networks: Sequence[Architecture], *, threads: int, limits: PairLimits, log: CalibrationLog, out: Path
) -> None:
    """Measure, showing how far it is, and write the CSV."""

    def show(progress) -> None:
        if "pairs" not in progress.values:
            print(f"\r{out.name}: {progress.stage}   ", end="", flush=True)

    spec = MeasureSpec(options=BackendOptions(threads=threads), limits=limits)
    calibration = follow(measure_networks(networks, spec=spec, log=log), show)
    wanted = {format_architecture(network) for network in networks}
    samples = [sample for sample in calibration.samples if sample.architecture in wanted]  # the log has the other sets
    save_samples(samples, out)
    print(f"\r{out.name}: {len(samples)} networks, StarNet-S1 {calibration.reference.ms:.3f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="starnet")
    parser.add_argument("--threads", type=int, default=1)
    for name, count in (("chosen", 50), ("random", 100), ("held-out", 120)):
        parser.add_argument(f"--{name}", type=int, default=count)
    options = vars(parser.parse_args())
    counts = {name: options[name.replace("-", "_")] for name in SEEDS}
    stem = f"{options['space']}-{options['threads']}-thread"
    log = CalibrationLog(HERE / f"{stem}.measuring.jsonl", resolution=224)  # one scale for all sets
    for name, networks in draw_sets(options["space"], counts).items():
        if not networks:
            continue
        limits = HELD_OUT if name == "held-out" else LIMITS
        measure_set(networks, threads=options["threads"], limits=limits, log=log, out=HERE / f"{stem}-{name}.csv")
    log.remove()


if __name__ == "__main__":
    main()
