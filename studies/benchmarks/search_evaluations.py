"""Evaluations that each sampler needs for the hypervolume that NSGA-II has after 200, on a synthetic truth.

The truth of a network is a scaling law of its size and depth, on which stars, kernels, ratios and activation placements
act by fixed factors; each network adds its own seeded 1 % of the error, each evaluation half a point of noise, as a
proxy judged on 10,000 images has. The published networks are known to all. The hypervolume is of the true values.

    python studies/benchmarks/search_evaluations.py --seeds 0 1 2 3 4 --samplers auto tpe random
"""

from __future__ import annotations

import hashlib
import math
import time
import warnings
from dataclasses import replace

import numpy as np
from harness import collected, read_options, show

from starsearch.families.family import count_macs, count_params
from starsearch.measurement import Measurement
from starsearch.objective import Objective
from starsearch.pareto import hypervolume
from starsearch.search.auto import AutoProposer
from starsearch.search.planned import anchor_trials
from starsearch.search.proposer import Proposer
from starsearch.study.study_file import load_study

OBJECTIVES = (Objective(name="top1_percent", direction="maximize"), Objective(name="macs", direction="minimize"))
REFERENCE = np.array([60.0, 1_200.0])  # error in percent, millions of multiply-adds
PLACEMENT = {"one": 0.0, "both": 0.02, "post": 0.06, "none": 0.12}


def seeded(*parts):
    digest = hashlib.sha256(repr(parts).encode()).hexdigest()
    return np.random.default_rng(int(digest[:12], 16)).standard_normal()


def true_error(network):
    """The error in percent; StarNet-S1 to S4 have 26 to 18."""
    size = 0.21 * math.log(count_macs(network) / 4e8) + 0.14 * math.log(count_params(network) / 3e6)
    log_error = math.log(26.9) - size - 0.1 * math.log(sum(network.depths) / 15)
    log_error += PLACEMENT[network.activation[0]] + 0.01 * seeded(network)
    for stage, gain in enumerate((0.02, 0.03, 0.02, 0.05)):  # stars help most in the last stage, as in table 7
        log_error += gain * (network.ops[stage] == "sum") + 0.015 * abs(math.log(network.mlp_ratio[stage] / 4))
        log_error += 0.006 * (7 - network.kernel_size[stage]) * (1 + (stage == 3))
    return math.exp(log_error)


def judge(trial, seed):
    network = trial.candidate.architecture
    top1 = 100 - true_error(network) + 0.5 * seeded(network, seed)
    return replace(
        trial,
        state="complete",
        readings=(
            Measurement(name="top1_percent", value=top1, spread=0.5),
            Measurement(name="macs", value=count_macs(network)),
        ),
    )


def search(sampler, seed, evaluations):
    """The hypervolume after each evaluation that was not an anchor's, and the seconds of CPU of each ask."""
    spec = replace(load_study("starnet"), objectives=OBJECTIVES, sampler=sampler, seed=seed, trials=evaluations)
    proposer = (AutoProposer if sampler == "auto" else Proposer)(spec, [])
    found, volumes, asks = [], [], []
    todo = list(anchor_trials(spec))
    anchors = len(todo)
    for _ in range(anchors + evaluations):
        began = time.process_time()
        trial = todo.pop(0) if todo else proposer.propose()
        asks.append(time.process_time() - began)
        proposer.adopt(trial)
        proposer.tell(judge(trial, seed))
        network = trial.candidate.architecture
        found.append((true_error(network), count_macs(network) / 1e6))
        inside = np.array([point for point in found if (np.array(point) <= REFERENCE).all()])
        volumes.append(hypervolume(inside, REFERENCE) / REFERENCE.prod())
    return volumes[anchors:], asks[anchors:]


def runs(samplers, seeds, evaluations):
    for seed in seeds:
        goal = search("nsga2", seed, 200)[0][-1]
        for sampler in samplers:
            volumes, asks = search(sampler, seed, evaluations)
            reached = [number for number, volume in enumerate(volumes, 1) if volume >= goal]
            yield {
                "sampler": sampler,
                "seed": seed,
                "goal": goal,
                "evaluations": reached[0] if reached else math.inf,
                "hypervolume": volumes[-1],
                "ask_s": float(np.mean(asks)),
                "slowest_ask_s": max(asks),
            }


if __name__ == "__main__":
    options = read_options(__doc__, seeds=[0, 1, 2, 3, 4], samplers=["auto", "tpe"], evaluations=100)
    warnings.simplefilter("ignore")
    rows = collected(runs(options.samplers, options.seeds, options.evaluations), options.out)
    figures = rows.groupby("sampler", sort=False)[["evaluations", "hypervolume", "ask_s", "slowest_ask_s"]]
    show(figures.median())
    show(rows.groupby("sampler", sort=False)["evaluations"].agg(["min", "max"]))
