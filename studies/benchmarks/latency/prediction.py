"""Prediction error by number of calibration networks, beside three other ways, on networks that no fit has seen.

    python studies/benchmarks/latency/prediction.py [--space starnet] [--out prediction-SPACE.csv]

Reads what `measure_networks.py` wrote. Beside ours: milliseconds linear in FLOPs; gradient-boosted trees on the
architecture's numbers (scikit-learn); and a sum of op profiles akin to nn-Meter's: boosted trees a kind of layer,
trained on ONNX Runtime's profile of the same calibration networks, added up and scaled to their latencies. All are
fitted to the same networks: once those that `latency fit` chooses (completed by random ones), and in five random
draws. In brackets: 95 % bootstrap intervals over the held-out networks, or the range over the draws. Also: the coverage
of the 90 % intervals, and few-shot adaptation to two threads.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from sklearn.ensemble import GradientBoostingRegressor

from starsearch.errors import EvaluationError
from starsearch.families.family import Architecture, count_macs
from starsearch.families.starnet import ACTIVATION_PLACEMENTS, BRANCH_OPS
from starsearch.families.text import parse_architecture
from starsearch.latency.device import device_fingerprint
from starsearch.latency.prediction.calibration import fit_profile
from starsearch.latency.prediction.imported import Sample, read_samples
from starsearch.latency.prediction.predict import predict_latency
from starsearch.latency.prediction.profile import DeviceProfile, FloatVector
from starsearch.latency.prediction.terms import describe_network

HERE = Path(__file__).parent
RESOLUTION = 224
COUNTS = (10, 20, 50, 100, 150)
DRAWS = 5
BOOTSTRAP = 500
SUMMARIES = ("mape_percent", "within_5_percent", "within_10_percent", "spearman")
COLUMNS = [
    *("method", "networks", "calibration"),
    *(f"{name}{end}" for name in SUMMARIES for end in ("", "_low", "_high")),
    "covered_percent",
]
Predict = Callable[[Sequence[Architecture]], np.ndarray]


@dataclass(frozen=True)
class Data:
    """The measured networks of one space and thread count."""

    chosen: tuple[Sample, ...]
    random: tuple[Sample, ...]
    held_out: tuple[Sample, ...]

    @classmethod
    def read(cls, stem: str) -> Data:
        """From the files that `measure_networks.py` wrote."""
        files = [HERE / f"{stem}-{name}.csv" for name in ("chosen", "random", "held-out")]
        return cls(*(read_samples(file) if file.is_file() else () for file in files))

    def calibrations(self, count: int) -> Iterator[tuple[str, list[Sample]]]:
        """As `latency fit` chooses, completed at random; then random draws."""
        yield "chosen", [*self.chosen, *self.random][:count]
        pool = [*self.random] if count <= len(self.random) else [*self.random, *self.chosen]
        for seed in range(DRAWS if count < len(pool) else 1):
            order = np.random.default_rng(seed).permutation(len(pool))
            yield "random", [pool[index] for index in order[:count]]


def architectures_of(samples: Sequence[Sample]) -> list[Architecture]:
    return [parse_architecture(sample.architecture) for sample in samples]


def times_of(samples: Sequence[Sample]) -> np.ndarray:
    return np.array([sample.ms for sample in samples])


def make_profile(samples: Sequence[Sample], *, threads: int = 1) -> DeviceProfile:
    device = device_fingerprint(threads=threads)
    return fit_profile(
        samples, name="x", device=device, backend="onnxruntime-cpu", resolution=RESOLUTION, reference=None
    )


def fit_flops(samples: Sequence[Sample]) -> Predict:
    def flops(architectures):
        return np.array([[1.0, count_macs(a, resolution=RESOLUTION) / 1e9] for a in architectures])

    ms = times_of(samples)
    solution, *_ = np.linalg.lstsq(flops(architectures_of(samples)) / ms[:, None], np.ones(len(ms)), rcond=None)
    return lambda architectures: flops(architectures) @ solution


def numbers(architecture: Architecture) -> list[float]:
    """What a generic regressor is given: the configuration, and MACs."""
    a = architecture
    return [
        *a.stage_widths,
        *a.depths,
        *a.mlp_ratio,
        *a.kernel_size,
        *(BRANCH_OPS.index(op) for op in a.ops),
        *(ACTIVATION_PLACEMENTS.index(place) for place in a.activation),
        count_macs(a, resolution=RESOLUTION) / 1e9,
    ]


def fit_trees(samples: Sequence[Sample]) -> Predict:
    model = GradientBoostingRegressor(n_estimators=300, max_depth=3, learning_rate=0.05, subsample=0.8, random_state=0)
    model.fit([numbers(a) for a in architectures_of(samples)], np.log(times_of(samples)))
    return lambda architectures: np.exp(model.predict([numbers(a) for a in architectures]))


def fit_op_profiles(samples: Sequence[Sample]) -> Predict:
    """Akin to nn-Meter: a regressor a kind of kernel on profiled times; the network is their sum.

    It has a row a network and kind, where nn-Meter profiles thousands of single kernels.
    """

    def rows_of(architecture):
        network = describe_network(architecture, resolution=RESOLUTION, vector_width=1)
        return {kind: [network.layers[kind], *terms.values()] for kind, terms in network.by_kind.items()}

    described = [rows_of(a) for a in architectures_of(samples)]
    pairs = list(zip(described, samples, strict=True))
    models = {}
    for kind in {kind for rows in described for kind in rows}:
        known = [(rows[kind], s.shares.get(kind, 0.0) * s.ms) for rows, s in pairs if kind in rows]
        model = GradientBoostingRegressor(n_estimators=200, max_depth=3, learning_rate=0.05, random_state=0)
        models[kind] = model.fit(*zip(*known, strict=True)) if len(known) > 1 else None

    def add_up(architectures):
        total = np.zeros(len(architectures))
        for index, rows in enumerate(map(rows_of, architectures)):
            for kind, row in rows.items():
                if models.get(kind) is not None:
                    total[index] += models[kind].predict([row])[0]
        return total

    scale = np.median(times_of(samples) / add_up(architectures_of(samples)))
    return lambda architectures: scale * add_up(architectures)


PEERS: dict[str, Callable[[Sequence[Sample]], Predict]] = {
    "FLOPs-linear": fit_flops,
    "boosted trees": fit_trees,
    "sum of op profiles, a regressor a kind": fit_op_profiles,
}


def judge(predicted: np.ndarray, measured: np.ndarray) -> dict[str, float]:
    """The errors' summaries, each with the ends of its 95 % bootstrap interval."""

    def summarize(rows: np.ndarray) -> tuple[float, ...]:
        errors = np.abs(predicted[rows] / measured[rows] - 1)
        near = (100 * (errors <= bound).mean() for bound in (0.05, 0.10))
        return 100 * errors.mean(), *near, spearmanr(predicted[rows], measured[rows])[0]

    rng, count = np.random.default_rng(0), len(measured)
    draws = np.array([summarize(rng.integers(0, count, count)) for _ in range(BOOTSTRAP)])
    low, high = np.quantile(draws, (0.025, 0.975), axis=0)
    found = {}
    for index, (name, value) in enumerate(zip(SUMMARIES, summarize(np.arange(count)), strict=True)):
        found |= {name: value, f"{name}_low": low[index], f"{name}_high": high[index]}
    return found


def predict(profile: DeviceProfile, networks: Sequence[Architecture]) -> FloatVector:
    """(3, n): predicted milliseconds and the ends of their intervals."""
    found = [predict_latency(profile, network, resolution=RESOLUTION) for network in networks]
    return np.array([(one.value, one.low, one.high) for one in found]).T


def judge_fits(data: Data) -> Iterator[dict[str, object]]:
    networks, measured = architectures_of(data.held_out), times_of(data.held_out)
    for count in COUNTS:
        if count > len(data.chosen) + len(data.random):
            continue
        for calibration, samples in data.calibrations(count):
            profile = make_profile(samples)
            try:
                predicted, low, high = predict(profile, networks)
            except EvaluationError as error:  # ten random networks may have no layer of some kind
                print(f"{count} networks, {calibration}: {error}")
                continue
            covered = 100 * ((measured >= low) & (measured <= high)).mean()
            head = {"networks": count, "calibration": calibration}
            yield {"method": "starsearch", **head, **judge(predicted, measured), "covered_percent": covered}
            for method, fit in PEERS.items():
                yield {"method": method, **head, **judge(fit(samples)(networks), measured)}


def judge_adaptation(space: str, base: Data) -> Iterator[dict[str, object]]:
    """From one thread to two."""
    other = Data.read(f"{space}-2-thread")
    networks, measured = architectures_of(other.held_out), times_of(other.held_out)
    profile = make_profile([*base.chosen, *base.random])
    pool = [*other.chosen, *other.random]
    for count in (5, 10):
        for seed in range(DRAWS + 1):
            order = np.random.default_rng(seed).permutation(len(pool)) if seed else np.arange(len(pool))
            few = [pool[index] for index in order[:count]]
            about = {"name": "x", "device": device_fingerprint(threads=2), "backend": "onnxruntime-cpu"}
            adapted = fit_profile(few, base=profile, resolution=RESOLUTION, reference=None, **about)
            predicted, low, high = predict(adapted, networks)
            covered = 100 * ((measured >= low) & (measured <= high)).mean()
            calibration = "random" if seed else "chosen"
            head = {"method": "adapted from 1 thread to 2", "networks": count, "calibration": calibration}
            yield {**head, **judge(predicted, measured), "covered_percent": covered}


def show(rows: Sequence[dict[str, object]]) -> Iterator[str]:
    """A line a method and sort of calibration: one calibration with its confidence, or the range over the draws."""
    yield "| method | networks | calibration | MAPE % | within ±5 % | within ±10 % | Spearman | covered % |"
    yield "|---|---|---|---|---|---|---|---|"
    groups: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault((row["networks"], row["method"], row["calibration"]), []).append(row)
    for (networks, method, calibration), group in groups.items():
        name = str(calibration) if len(group) == 1 else f"{calibration}, {len(group)} draws"
        cells = [_cell(group, summary, 4 if summary == "spearman" else 2) for summary in SUMMARIES]
        covered = [row["covered_percent"] for row in group if "covered_percent" in row]
        ends = f"{np.mean(covered):.0f}" + (f" ({min(covered):.0f}–{max(covered):.0f})" if len(covered) > 1 else "")
        yield f"| {method} | {networks} | {name} | {' | '.join(cells)} | {ends if covered else ''} |"


def _cell(group: Sequence[dict[str, object]], name: str, digits: int) -> str:
    values = [float(row[name]) for row in group]
    if len(values) == 1:
        low, high = (float(group[0][f"{name}_{end}"]) for end in ("low", "high"))
    else:
        low, high = min(values), max(values)
    return f"{np.mean(values):.{digits}f} ({low:.{digits}f}–{high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="starnet")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    data = Data.read(f"{options.space}-1-thread")
    rows = list(judge_fits(data))
    if (HERE / f"{options.space}-2-thread-held-out.csv").is_file():
        rows += judge_adaptation(options.space, data)
    out = options.out or HERE / f"prediction-{options.space}.csv"
    with out.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.4g}" if isinstance(v, float) else v for k, v in row.items()})
    print("\n".join(show(rows)))


if __name__ == "__main__":
    main()
