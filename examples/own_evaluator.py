"""Search with an evaluator of one's own: no training, an objective that starsearch does not know.

    python examples/own_evaluator.py [--trials 60] [--out studies]

The score counts stars and depth, as a stand-in for what you would measure: a zero-cost proxy, energy, a simulator.
"""

import argparse
from dataclasses import replace

import starsearch
from starsearch.measurement import Measurement
from starsearch.objective import Objective


def judge(candidate, *, seed, weights, part=None):
    """Yield `Progress` where there is something to tell; return what was measured."""
    yield from ()
    network = candidate.architecture
    stars = sum(depth for depth, op in zip(network.depths, network.ops, strict=True) if op == "star")
    macs = starsearch.count_macs(network)
    return Measurement(name="score", value=float(stars + sum(network.depths))), Measurement(name="macs", value=macs)


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=60)
parser.add_argument("--out", default="studies")
options = parser.parse_args()

(spec,) = starsearch.load_specs("starnet", name="own-score")
objectives = (Objective(name="score", direction="maximize"), Objective(name="macs", direction="minimize"))
study = starsearch.run(replace(spec, objectives=objectives), trials=options.trials, out=options.out, evaluator=judge)
print(study.front()[["number", "architecture_text", "score", "macs"]].to_string(index=False))
