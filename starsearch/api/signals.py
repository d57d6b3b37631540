"""What untrained networks, epochs on the way and the accuracy model tell of accuracy: `audit_signals`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from starsearch.accuracy.audit import LEAST, Audit, audit, flipped, sight
from starsearch.accuracy.evidence import IMAGENET, Observation, published_observations, published_top1_percent
from starsearch.accuracy.posterior import fit_posterior
from starsearch.accuracy.signals import AZ_NAS, SIGNALS, az_nas, make_batches, read_signals
from starsearch.api.study import load_study
from starsearch.bench.making import QUICK
from starsearch.bench.table import LATENCY_ROWS, SIGNAL, SIGNAL_ROWS, parse_curves, read_table, table_files
from starsearch.data import open_data
from starsearch.errors import SpecError, StudyError, counted, did_you_mean
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import parse_architecture
from starsearch.objective import IMAGENET_TOP1
from starsearch.pareto import FloatArray
from starsearch.progress import Progress, follow, ignore
from starsearch.records.record import StudyRecord
from starsearch.report.agreement import accuracy_of, costs
from starsearch.resolution import Resolution
from starsearch.resources import shipped_names
from starsearch.search.evidence import evidence_on, kept_evidence, observations, task_of
from starsearch.study.study_file import load_specs

_DRAWN, _FLIPPED = 30, 6  # networks of a space that are drawn, and the smallest of these, of which a field is flipped
_PIXELS = 64  # of the images that signals are shown, where nothing else is said
_FOLDS = 10  # parts of the networks that are estimated without their own results
MODEL, _EPOCH = "estimate", "epoch-"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAudit:
    """What a signal is worth, top-1 after an epoch ("epoch-1"), or the accuracy model ("estimate").

    Attributes:
        ranking: how well it ranks networks by their accuracy.
        sees: by field of `starsearch.accuracy.audit.FLIPS` what `sight` says.
        seconds: of the processor, a network; NaN where a table has the signal, and of what is no signal.
    """

    signal: str
    ranking: Audit
    sees: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Truth:
    """Accuracies that are known, with the networks' costs (networks,), in words, and signals that were read before.

    `curves` have a column for each epoch before the last. `observed` are the accuracies as the model takes them, of the
    task `target`, and `others` what else it is told.
    """

    accuracy: dict[Architecture, float]
    cost: FloatArray
    words: str
    target: str
    observed: Sequence[Observation]
    others: Sequence[Observation] = ()
    curves: pd.DataFrame = field(default_factory=pd.DataFrame)
    signals: pd.DataFrame = field(default_factory=pd.DataFrame)


def audit_signals(
    truth: str,
    *,
    data: str | None = None,
    signals: Iterable[str] = (),
    resolution: Resolution | None = None,
    seed: int = 0,
    watch: Callable[[Progress], object] = ignore,
) -> tuple[str, list[SignalAudit]]:
    """Return what the accuracies are, in words, and what signals of untrained networks and other rankings say of them.

    Of a study (`truth`) its complete networks are ranked by their accuracy, but for estimates; of a space the published
    ones of its family by their ImageNet top-1; of a StarBench table those trained at the fidelity "proxy". Where a
    table has signals, these are taken and nothing is read anew. Fields are flipped of the smallest six of these
    networks, or of thirty drawn ones of a space. Without `signals` all are read, with AZ-NAS's combination.

    The same is said of top-1 after each earlier epoch, as a rung there would rank, of a table's "quick" trainings, and
    of the accuracy model, which estimates each tenth of the networks without their results.
    """
    known, drawn = _find(truth, seed)
    top1, networks, given = np.array(list(known.accuracy.values())), list(known.accuracy), list(signals)
    trained = [name for name in (*known.curves, MODEL) if not given or name in given]
    if of_others := [name for name in given if name not in (*trained, *SIGNALS, "az_nas")]:
        known_names = [*SIGNALS, "az_nas", *known.curves, MODEL]
        hint = did_you_mean(of_others[0], known_names)
        raise SpecError(f"Unknown signal {of_others[0]!r}.{hint} Of {truth} there are: {', '.join(known_names)}.")
    names = [part for name in given if name not in trained for part in (AZ_NAS if name == "az_nas" else (name,))]
    is_read = not known.signals.empty
    if is_read and (data is not None or resolution is not None):
        drop = "--data" if data is not None else "--resolution"
        raise SpecError(
            f"The signals of {truth} are in its table, read off images of the data it was made with: drop {drop}."
        )
    some = networks if is_read else sorted(drawn or networks, key=count_macs)[:_FLIPPED]
    pairs = pd.DataFrame([flipped(network) for network in some])
    asked = (
        [] if is_read else list(dict.fromkeys((*networks, *(one for pair in pairs.to_numpy().ravel() for one in pair))))
    )
    if given and not names:
        read = pd.DataFrame(index=range(len(asked)))
    else:
        batches = make_batches(None if data is None else open_data(data), resolution=resolution or _PIXELS, seed=seed)
        read = follow(read_signals(asked, batches, names=names, seed=seed), watch)
    seconds = {} if is_read else read.attrs.get("seconds", {})
    values = known.signals.reindex(columns=read.columns) if is_read else read.set_axis(asked)
    if set(AZ_NAS) <= set(values):
        values["az_nas"] = az_nas(values)
        seconds["az_nas"] = sum(seconds.get(name, math.nan) for name in AZ_NAS)
    for name in trained:
        values[name] = _estimate(known, list(values.index), seed) if name == MODEL else known.curves[name]
    num_params = np.array([count_params(one) for one in networks], dtype=float)
    own = values.reindex(networks)
    if "az_nas" in own:  # made of ranks: those among the networks that are judged, not beside those that are flipped
        own["az_nas"] = az_nas(own)
    found = []
    for name in values:
        value = values[name].to_dict()
        ranked = own[name].to_numpy(dtype=np.float64)
        sees = {
            str(flip): sight(*([value.get(one, math.nan) for one in side] for side in zip(*pairs[flip], strict=True)))
            for flip in pairs
        }
        ranking = audit(ranked, top1, num_params=num_params, cost=known.cost, seed=seed)
        found.append(SignalAudit(signal=str(name), ranking=ranking, sees=sees, seconds=seconds.get(name, math.nan)))
    return known.words, found


def _estimate(known: _Truth, networks: Sequence[Architecture], seed: int) -> list[float]:
    """Return top-1 of each network by the accuracy model, told nothing of a tenth of the networks with it."""
    found: dict[Architecture, float] = {}
    left_out = [list(known.accuracy)[part::_FOLDS] for part in range(_FOLDS)]
    for part in (*left_out, [one for one in networks if one not in known.accuracy]):
        if part:
            told = [one for one in known.observed if one.architecture not in set(part)]
            posterior = fit_posterior([*told, *known.others], target=known.target, seed=seed)
            found |= zip(part, (one.mean for one in posterior.estimate(part)), strict=True)
    return [found[one] for one in networks]


def _by_epoch(curves: Sequence[Mapping[int, float]], networks: list[Architecture]) -> pd.DataFrame:
    """Return top-1 after up to four epochs before the last, the early ones closer together; a row a network."""
    last = max((epoch for curve in curves for epoch in curve), default=1)
    epochs = dict.fromkeys(round(epoch) for epoch in np.geomspace(1, last - 1, 4)) if last > 1 else ()
    columns = {f"{_EPOCH}{epoch}": [curve.get(epoch, math.nan) for curve in curves] for epoch in epochs}
    return pd.DataFrame(columns, index=networks)


def _find(truth: str, seed: int) -> tuple[_Truth, list[Architecture]]:
    """Return what is known of a space, study or table, and networks drawn of a space."""
    if "://" not in truth and table_files(Path(truth)):
        return _of_table(Path(truth)), []
    if "://" in truth or (Path(truth).is_dir() and truth not in shipped_names("spaces")):
        return _of_study(truth), []
    space = load_specs(truth)[0].space
    return _published(space.family), [one.canonical() for one in space.sample_architectures(_DRAWN, seed)]


def _published(family: str) -> _Truth:
    """Return the published networks' results as their papers have them, and their multiply-adds."""
    accuracy = {one: value for one, value in published_top1_percent().items() if one.family == family}
    if len(accuracy) < LEAST:
        raise StudyError(f"No accuracies of the family {family} are published: name a study of it that has run.")
    macs = np.array([count_macs(one) for one in accuracy], dtype=float)
    return _Truth(
        accuracy=accuracy,
        cost=macs,
        words=f"published ImageNet top-1 of {len(accuracy)} networks",
        target=IMAGENET,
        observed=published_observations(family),
    )


def _of_study(study: str) -> _Truth:
    view = load_study(study).view
    ranked = accuracy_of(view.objectives)
    with closing(StudyRecord.find(view.url, view.name)) as record:
        by_number = {one.number: one for one in record.trials() if not one.is_baseline}
    trials = view.complete[view.complete["number"].isin(by_number)].drop_duplicates("architecture_text")
    if ranked is not None and f"{ranked.name}_kind" in trials:  # an estimate is made of what signals are judged by
        trials = trials[trials[f"{ranked.name}_kind"] != "estimated"]
    if ranked is None:
        raise StudyError(f"{study} has no accuracy among its objectives, which signals could be judged by.")
    if len(trials) < LEAST:
        raise StudyError(
            f"{study} has {counted(len(trials), 'complete network')} with an accuracy that is no estimate; three are "
            "needed."
        )
    networks = [parse_architecture(text).canonical() for text in trials["architecture_text"]]
    published = published_observations(view.spec.space.family)
    own = observations(view.spec, by_number.values(), ranked.name)
    own += evidence_on(ranked.name, kept_evidence(view.attributes))
    is_trained = ranked.name != IMAGENET_TOP1
    curves = [by_number[number].curve if is_trained else {} for number in trials["number"]]
    return _Truth(
        accuracy=dict(zip(networks, trials[ranked.name].astype(float), strict=True)),
        cost=costs(trials, view.objectives),
        words=f"{ranked.name} of {len(networks)} networks of {study}",
        target=task_of(view.spec) if is_trained else IMAGENET,
        observed=own if is_trained else published,
        others=published if is_trained else (),
        curves=_by_epoch(curves, networks),
    )


def _of_table(folder: Path) -> _Truth:
    """Return StarBench's trainings at "proxy" by the first seed, latencies where all have one, and signals."""
    rows = read_table(folder)
    rows = rows[rows["seed"] == 0]
    trained, latency, signals = (
        rows[rows["fidelity"] == kind].set_index("network") for kind in ("proxy", LATENCY_ROWS, SIGNAL_ROWS)
    )
    trained = trained[trained["top1_percent"].notna()]
    if len(trained) < LEAST:
        raise StudyError(f"{folder} has {counted(len(trained), 'training')} at 'proxy'; three are needed.")
    latency_ms = latency["latency_ms"].reindex(trained.index)
    signals = signals.filter(like=SIGNAL).rename(columns=lambda name: name.removeprefix(SIGNAL))
    networks = [parse_architecture(text).canonical() for text in trained.index]
    top1 = dict(zip(networks, trained["top1_percent"].tolist(), strict=True))
    curves = [dict(enumerate(curve, 1)) for curve in parse_curves(trained)]
    by_epoch, quick = _by_epoch(curves, networks), rows[rows["fidelity"] == QUICK].set_index("network")["top1_percent"]
    if len(quick):
        by_epoch[QUICK] = quick.reindex(trained.index).to_numpy()
    cost, what = (trained["macs"], "multiply-adds") if latency_ms.isna().any() else (latency_ms, "latency")
    return _Truth(
        accuracy=top1,
        cost=cost.to_numpy(float),
        words=f"top-1 at 'proxy' of {len(trained)} networks of {folder}, cost by {what}",
        target="proxy",
        observed=[Observation(architecture=one, task="proxy", value=value) for one, value in top1.items()],
        curves=by_epoch,
        signals=signals if signals.empty else signals.reindex(trained.index).set_axis(networks),
    )
