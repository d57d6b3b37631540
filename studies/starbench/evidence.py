"""How well accuracy is estimated on StarBench: networks held out, and what other tasks add.

    python studies/starbench/evidence.py --high proxy --low proxy@1
    python studies/starbench/evidence.py --high medium --low proxy

A task is a fidelity, at an epoch where one is named. Prints, where more than 20 networks are known at both,
by their first seed,

- by 10-fold cross-validation over the networks: mean absolute error at `high`, and how many 90 % intervals hold it;
- with `high` known of 20 networks only (`--draws` times): the error on all others with nothing else, with random values
  of all networks as a further task, and with `low` of all networks, and how many 90 % intervals hold it;
- the correlation of `low` with `high`, of what a ridge regression on the features says and of what it leaves;

and of each seed, and of the mean over the seeds, Kendall's τ of `low` and of counting parameters with `high`, with 95 %
bootstrap intervals over the networks.
"""

import argparse
from collections import defaultdict
from pathlib import Path

import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.preprocessing import StandardScaler

from starsearch.accuracy.audit import kendall
from starsearch.accuracy.evidence import Observation
from starsearch.accuracy.features import encode
from starsearch.accuracy.posterior import fit_posterior
from starsearch.bench.networks import SEEDS
from starsearch.bench.table import read_table
from starsearch.families.family import count_params
from starsearch.families.text import parse_architecture

KNOWN = 20
FOLDS = 10


def main():
    options = parse_options()
    rng = np.random.default_rng(0)
    rows = read_table(options.table)
    high, low = values_of(rows, options.high), values_of(rows, options.low)
    networks = [one for one in high if one in low]
    print(f"{len(networks)} networks known at {options.high} and {options.low}")
    if len(networks) > KNOWN:
        hold_out(high, rng)
        add_evidence(high, low, networks, rng, draws=options.draws)
        tell_own(high, low, networks)
    seeds = [[values_of(rows, task, seed) for task in (options.high, options.low)] for seed in range(SEEDS)]
    seeds = [one for one in seeds if one[0] and one[1]]
    for high, low in seeds:
        rank(high, low, rng)
    if len(seeds) > 1:
        print(f"mean of {len(seeds)} seeds:")
        rank(*(mean_of(values) for values in zip(*seeds, strict=True)), rng)


def values_of(rows, task, seed=0):
    """Return top-1 by network, of one seed, after the epoch that the task names or the last."""
    fidelity, _, epoch = task.partition("@")
    rows = rows[(rows["fidelity"] == fidelity) & (rows["seed"] == seed) & rows["top1_percent"].notna()]
    at = int(epoch) - 1 if epoch else -1
    curves = zip(rows["network"], rows["curve"], strict=True)
    return {parse_architecture(text): float(curve.split()[at]) for text, curve in curves}


def observe(task, values, networks):
    return [Observation(architecture=one, task=task, value=values[one]) for one in networks]


def hold_out(high, rng):
    networks = list(high)
    errors, holds = [], []
    for part in np.array_split(rng.permutation(len(networks)), FOLDS):
        held = [networks[row] for row in part]
        posterior = fit_posterior(observe("high", high, [one for one in networks if one not in held]), target="high")
        for one, found in zip(held, posterior.estimate(held), strict=True):
            errors.append(abs(found.mean - high[one]))
            holds.append(found.low <= high[one] <= found.high)
    error, share = np.mean(errors), np.mean(holds)
    print(f"{len(networks)} held out, each once: error {error:.2f} points, the 90 % intervals hold {share:.0%}")


def add_evidence(high, low, networks, rng, *, draws):
    errors, holds = defaultdict(list), defaultdict(list)
    for _ in range(draws):
        known = [networks[row] for row in rng.permutation(len(networks))[:KNOWN]]
        others = [one for one in networks if one not in known]
        random = {one: rng.normal() for one in networks}
        further = {
            "nothing else": [],
            "random values": observe("signal/random", random, networks),
            "the lower fidelity": observe("low", low, networks),
        }
        for name, more in further.items():
            found = fit_posterior([*observe("high", high, known), *more], target="high").estimate(others)
            errors[name].append(np.mean([abs(e.mean - high[one]) for e, one in zip(found, others, strict=True)]))
            holds[name].append(np.mean([e.low <= high[one] <= e.high for e, one in zip(found, others, strict=True)]))
    alone = np.mean(errors["nothing else"])
    for name, found in errors.items():
        spread = np.std(np.array(found) - errors["nothing else"], ddof=1)
        print(
            f"{KNOWN} networks known, {len(networks) - KNOWN} estimated, and {name}: "
            f"error {np.mean(found):.2f} points, {np.mean(found) / alone - 1:+.0%} (of a draw ± {spread:.2f} points); "
            f"the 90 % intervals hold {np.mean(holds[name]):.0%}"
        )


def tell_own(high, low, networks):
    """Say how well `low` sees what sets a network apart from those like it: what a ridge on the features leaves."""
    features = StandardScaler().fit_transform([encode(one) for one in networks])
    left, like = [], []
    for values in (high, low):
        top1 = np.array([values[one] for one in networks])
        like.append(
            cross_val_predict(
                RidgeCV(np.logspace(-2, 3, 16)), features, top1, cv=KFold(FOLDS, shuffle=True, random_state=0)
            )
        )
        left.append(top1 - like[-1])
    found = [np.corrcoef(both)[0, 1] for both in (like, left)]
    print(
        f"correlation of both fidelities: {found[0]:.2f} of what is alike, {found[1]:.2f} of what sets networks apart"
    )


def mean_of(seeds):
    return {one: np.mean([values[one] for values in seeds]) for one in seeds[0] if all(one in more for more in seeds)}


def rank(high, low, rng):
    networks = [one for one in high if one in low]
    params = np.array([count_params(one) for one in networks], dtype=float)
    top, below = (np.array([values[one] for one in networks]) for values in (high, low))
    for name, by in (("the lower fidelity", below), ("parameters", params)):
        print(f"{len(networks)} networks, τ of {name}: {kendall(by, top, rng=rng)}")


def parse_options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, default=Path("studies/starbench"))
    parser.add_argument("--high", default="proxy")
    parser.add_argument("--low", default="proxy@1")
    parser.add_argument("--draws", type=int, default=5)
    return parser.parse_args()


if __name__ == "__main__":
    main()
