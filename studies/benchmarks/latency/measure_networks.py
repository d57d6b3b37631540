"""Measures the random networks that `prediction.py` learns from and is judged on; resumes where it was interrupted.

    python studies/benchmarks/latency/measure_networks.py --space starnet [--threads 1] [--chosen 50] [--random 100]
        [--held-out 120]

Three sets, disjoint, seeds fixed: `chosen` as `starsearch latency fit` chooses them, `random` and `held-out` drawn at
random from the space. The held-out ones are measured with 40 pairs, the others as `fit` measures them, all on the scale
of one calibration. Written: SPACE-THREADS-thread-SET.csv. Let nothing else run meanwhile.
"""

from __future__ import annotations

import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness import read_options

from starsearch.families.text import format_architecture
from starsearch.latency.backends.backend import BackendOptions
from starsearch.latency.device import vector_width
from starsearch.latency.measure import MeasureSpec
from starsearch.latency.padded import LIMITS
from starsearch.latency.paired import PairLimits
from starsearch.latency.prediction.calibration import CalibrationLog, choose_networks, measure_networks
from starsearch.latency.prediction.imported import save_samples
from starsearch.progress import follow
from starsearch.resources import find_file
from starsearch.study.space_file import load_space

HERE = Path(__file__).parent
HELD_OUT = PairLimits(min_pairs=40, max_pairs=40, half_width=0.0)


def draw_sets(space, counts):
    """The networks of each set; none stands in two."""
    seen = set()
    for name, seed in (("held-out", 202), ("chosen", 0), ("random", 101)):
        drawn = (one for one in space.sample_architectures(1_000_000, seed) if one not in seen)
        if name == "chosen":
            options = {"resolution": space.resolution, "vector_width": vector_width()}
            networks = choose_networks(drawn, counts[name], **options)
        else:
            networks = list(islice(drawn, counts[name]))
        seen |= set(networks)
        yield name, networks


if __name__ == "__main__":
    options = read_options(__doc__, out=False, space="starnet", threads=1, chosen=50, random=100, held_out=120)
    counts = {"chosen": options.chosen, "random": options.random, "held-out": options.held_out}
    stem = f"{options.space}-{options.threads}-thread"
    log = CalibrationLog(HERE / f"{stem}.measuring.jsonl", resolution=224)  # one scale for all sets
    for name, networks in draw_sets(load_space(find_file(options.space, "spaces")), counts):
        if networks:
            spec = MeasureSpec(
                options=BackendOptions(threads=options.threads), limits=HELD_OUT if name == "held-out" else LIMITS
            )
            print(f"{name}: measuring {len(networks)} networks", flush=True)
            calibration = follow(measure_networks(networks, spec=spec, log=log))
            wanted = {format_architecture(network) for network in networks}  # the log has the other sets
            samples = [sample for sample in calibration.samples if sample.architecture in wanted]
            save_samples(samples, HERE / f"{stem}-{name}.csv")
            print(f"{name}: {len(samples)} networks, StarNet-S1 {calibration.reference.ms:.3f} ms", flush=True)
    log.remove()
