"""Prediction error by number of calibration networks, beside three other ways, on networks that no fit has seen.

    python studies/benchmarks/prediction.py --space starnet --measure [--threads 1] [--chosen 50] [--random 100]
    python studies/benchmarks/prediction.py --space starnet [--out latency/prediction-starnet.csv]

With `--measure`, which resumes where it was interrupted, three disjoint sets with fixed seeds are measured: `chosen` as
`starsearch latency fit` chooses them, `random` and `held-out` drawn at random from the space. The held-out ones are
measured with 40 pairs, the others as `fit` does, all on the scale of one calibration. Written:
latency/SPACE-THREADS-thread-SET.csv. Let nothing else run meanwhile.

Without it these files are read. Beside ours: milliseconds linear in FLOPs; gradient-boosted trees on the
architecture's numbers (scikit-learn); and a sum of op profiles akin to nn-Meter's: boosted trees a kind of layer,
trained on ONNX Runtime's profile of the same calibration networks, added up and scaled to their latencies. All are
fitted to the same networks: once those that `latency fit` chooses (completed by random ones), and in five random
draws. In brackets: 95 % bootstrap intervals over the held-out networks, or the range over the draws. Also: the coverage
of the 90 % intervals, and few-shot adaptation to two threads.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from harness import read_options, show, write
from scipy.stats import bootstrap, spearmanr
from sklearn.ensemble import GradientBoostingRegressor

from starsearch.errors import EvaluationError
from starsearch.families.family import count_macs, lower
from starsearch.families.starnet import ACTIVATION_PLACEMENTS, BRANCH_OPS
from starsearch.families.text import format_architecture, parse_architecture
from starsearch.latency.backends.backend import BackendOptions
from starsearch.latency.device import device_fingerprint, vector_width
from starsearch.latency.measure import MeasureSpec
from starsearch.latency.paired import PairLimits
from starsearch.latency.prediction.calibration import (
    LIMITS,
    CalibrationLog,
    choose_networks,
    fit_profile,
    measure_networks,
)
from starsearch.latency.prediction.imported import read_measurements, save_samples
from starsearch.latency.prediction.predict import predict_latency
from starsearch.latency.prediction.terms import NetworkTerms
from starsearch.progress import follow
from starsearch.resources import find_file
from starsearch.study.space_file import load_space

HERE = Path(__file__).parent / "latency"
RESOLUTION = 224
COUNTS = (10, 20, 50, 100, 150)
DRAWS = 5
ERRORS = {  # of predicted and measured milliseconds
    "mape_percent": lambda p, m: 100 * np.abs(p / m - 1).mean(),
    "within_5_percent": lambda p, m: 100 * (np.abs(p / m - 1) <= 0.05).mean(),
    "within_10_percent": lambda p, m: 100 * (np.abs(p / m - 1) <= 0.10).mean(),
    "spearman": lambda p, m: spearmanr(p, m)[0],
}


def draw_sets(space, counts):
    """The networks of each set; none stands in two."""
    seen = set()
    for name, seed in (("held-out", 202), ("chosen", 0), ("random", 101)):
        drawn = (one for one in space.sample_architectures(1_000_000, seed) if one not in seen)
        if name == "chosen":
            networks = choose_networks(drawn, counts[name], resolution=RESOLUTION, vector_width=vector_width())
        else:
            networks = list(islice(drawn, counts[name]))
        seen |= set(networks)
        if networks:
            yield name, networks


def measure(stem, options):
    counts = {"chosen": options.chosen, "random": options.random, "held-out": options.held_out}
    log = CalibrationLog(HERE / f"{stem}.measuring.jsonl", resolution=RESOLUTION)  # one scale for all sets
    for name, networks in draw_sets(load_space(find_file(options.space, "spaces")), counts):
        limits = PairLimits(min_pairs=40, max_pairs=40, half_width=0.0) if name == "held-out" else LIMITS
        print(f"{name}: measuring {len(networks)} networks", flush=True)
        spec = MeasureSpec(options=BackendOptions(threads=options.threads), limits=limits)
        calibration = follow(measure_networks(networks, spec=spec, log=log))
        wanted = {format_architecture(network) for network in networks}  # the log has the other sets
        samples = [sample for sample in calibration.samples if sample.architecture in wanted]
        save_samples(samples, HERE / f"{stem}-{name}.csv")
    log.remove()


def read(stem):
    """The measured networks of one space and thread count, by set."""
    files = {name: HERE / f"{stem}-{name}.csv" for name in ("chosen", "random", "held-out")}
    return {name: list(read_measurements(file)[0]) if file.is_file() else [] for name, file in files.items()}


def calibrations(data, count):
    """As `latency fit` chooses, completed at random; then random draws."""
    yield "chosen", [*data["chosen"], *data["random"]][:count]
    pool = data["random"] if count <= len(data["random"]) else [*data["random"], *data["chosen"]]
    for seed in range(DRAWS if count < len(pool) else 1):
        yield "random", [pool[index] for index in np.random.default_rng(seed).permutation(len(pool))[:count]]


def networks_of(samples):
    return [parse_architecture(sample.architecture) for sample in samples]


def times_of(samples):
    return np.array([sample.ms for sample in samples])


def measured_on(threads):
    """The machine of the measurements, wherever they are read: its vector width is found by the fit."""
    device = replace(device_fingerprint(threads=threads), processor="AMD EPYC with AVX2")
    return {"name": "x", "device": device, "backend": "onnxruntime-cpu", "resolution": RESOLUTION, "reference": None}


def make_profile(samples):
    return fit_profile(samples, **measured_on(threads=1))


def boosted(rows, targets, trees=300, **options):
    model = GradientBoostingRegressor(n_estimators=trees, max_depth=3, learning_rate=0.05, random_state=0, **options)
    return model.fit(rows, targets)


def fit_flops(samples):
    def flops(networks):
        return np.array([[1.0, count_macs(a, resolution=RESOLUTION) / 1e9] for a in networks])

    ms = times_of(samples)
    solution, *_ = np.linalg.lstsq(flops(networks_of(samples)) / ms[:, None], np.ones(len(ms)), rcond=None)
    return lambda networks: flops(networks) @ solution


def numbers(a):
    """What a generic regressor is given: the configuration, and MACs."""
    choices = [*(BRANCH_OPS.index(op) for op in a.ops), *(ACTIVATION_PLACEMENTS.index(place) for place in a.activation)]
    gmacs = count_macs(a, resolution=RESOLUTION) / 1e9
    return [*a.stage_widths, *a.depths, *a.mlp_ratio, *a.kernel_size, *choices, gmacs]


def fit_trees(samples):
    model = boosted([numbers(a) for a in networks_of(samples)], np.log(times_of(samples)), subsample=0.8)
    return lambda networks: np.exp(model.predict([numbers(a) for a in networks]))


def fit_op_profiles(samples):
    """Akin to nn-Meter: a regressor a kind of kernel on profiled times; the network is their sum.

    It has a row a network and kind, where nn-Meter profiles thousands of single kernels.
    """

    def rows_of(architecture):
        network = NetworkTerms.of(lower(architecture, resolution=RESOLUTION), vector_width=1)
        return {kind: [network.layers[kind], *terms.values()] for kind, terms in network.by_kind.items()}

    described = [(rows_of(parse_architecture(sample.architecture)), sample) for sample in samples]
    models = {}
    for kind in {kind for rows, _ in described for kind in rows}:
        known = [(rows[kind], s.shares.get(kind, 0.0) * s.ms) for rows, s in described if kind in rows]
        if len(known) > 1:
            models[kind] = boosted(*zip(*known, strict=True), trees=200)

    def total(networks):
        rows = map(rows_of, networks)
        return np.array([sum(m.predict([r[kind]])[0] for kind, m in models.items() if kind in r) for r in rows])

    scale = np.median(times_of(samples) / total(networks_of(samples)))
    return lambda networks: scale * total(networks)


PEERS = {
    "FLOPs-linear": fit_flops,
    "boosted trees": fit_trees,
    "sum of op profiles, a regressor a kind": fit_op_profiles,
}


def judge(predicted, measured):
    """Each error with the ends of its 95 % bootstrap interval."""
    found = {}
    for name, error in ERRORS.items():
        options = {"paired": True, "vectorized": False, "n_resamples": 500, "method": "percentile", "rng": 0}
        low, high = bootstrap((predicted, measured), error, **options).confidence_interval
        found |= {name: error(predicted, measured), f"{name}_low": low, f"{name}_high": high}
    return found


def judge_profile(profile, held_out):
    """Of a profile also how many of the measured times lie in its 90 % intervals."""
    measured = times_of(held_out)
    found = [predict_latency(profile, network, resolution=RESOLUTION) for network in networks_of(held_out)]
    covered = [one.low <= ms <= one.high for one, ms in zip(found, measured, strict=True)]
    predicted = np.array([one.value for one in found])
    return {**judge(predicted, measured), "covered_percent": 100 * np.mean(covered)}


def judge_fits(data):
    networks, measured = networks_of(data["held-out"]), times_of(data["held-out"])
    for count in (n for n in COUNTS if n <= len(data["chosen"]) + len(data["random"])):
        for calibration, samples in calibrations(data, count):
            head = {"networks": count, "calibration": calibration}
            try:
                yield {"method": "starsearch", **head, **judge_profile(make_profile(samples), data["held-out"])}
            except EvaluationError as error:  # ten random networks may have no layer of some kind
                print(f"{count} networks, {calibration}: {error}")
                continue
            for method, fit in PEERS.items():
                yield {"method": method, **head, **judge(fit(samples)(networks), measured)}


def judge_adaptation(base, other):
    """From one thread to two."""
    profile = make_profile([*base["chosen"], *base["random"]])
    for count in (5, 10):
        for calibration, few in calibrations(other, count):
            adapted = fit_profile(few, base=profile, **measured_on(threads=2))
            head = {"method": "adapted from 1 thread to 2", "networks": count, "calibration": calibration}
            yield {**head, **judge_profile(adapted, other["held-out"])}


def summary(group):
    """One calibration with its confidence, or the range over the draws."""
    cells = {}
    for name in ERRORS:
        ends = ("_low", "_high") if len(group) == 1 else ("", "")
        low, high = group[name + ends[0]].min(), group[name + ends[1]].max()
        cells[name] = f"{group[name].mean():.4g} ({low:.4g}–{high:.4g})"
    return pd.Series(cells | {"covered_percent": group["covered_percent"].mean(), "draws": len(group)})


if __name__ == "__main__":
    counts = {"chosen": 50, "random": 100, "held_out": 120}
    options = read_options(__doc__, space="starnet", measure=False, threads=1, **counts)
    if options.measure:
        measure(f"{options.space}-{options.threads}-thread", options)
        sys.exit()
    data, other = (read(f"{options.space}-{threads}-thread") for threads in (1, 2))
    adapted = judge_adaptation(data, other) if other["held-out"] else ()
    rows = pd.DataFrame([*judge_fits(data), *adapted])
    write(rows, options.out)
    show(rows.groupby(["networks", "method", "calibration"], sort=False)[list(rows.columns)].apply(summary))
