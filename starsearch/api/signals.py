"""What untrained networks tell of their accuracy, and what that is worth: `audit_signals`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from starsearch.accuracy.audit import LEAST, Audit, FloatArray, audit, flipped, sight
from starsearch.accuracy.evidence import published_top1_percent
from starsearch.accuracy.signals import AZ_NAS, az_nas, make_batches, read_signals
from starsearch.api.study import load_study
from starsearch.bench.table import LATENCY_ROWS, SIGNAL, SIGNAL_ROWS, read_table, table_files
from starsearch.data import open_data
from starsearch.errors import SpecError, StudyError, counted
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import parse_architecture
from starsearch.progress import Progress, follow, ignore
from starsearch.report.agreement import accuracy_of, costs
from starsearch.resolution import Resolution
from starsearch.resources import shipped_names
from starsearch.study.study_file import load_specs

_DRAWN, _FLIPPED = 30, 6  # networks of a space that are drawn, and the smallest of these, of which a field is flipped


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAudit:
    """What a signal is worth.

    Attributes:
        ranking: how well it ranks networks by their accuracy.
        sees: by field of `starsearch.accuracy.audit.FLIPS` what `sight` says.
        seconds: of the processor, a network; NaN where a table has the signal.
    """

    signal: str
    ranking: Audit
    sees: dict[str, float]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Truth:
    """Accuracies that are known, with the networks' costs (networks,), in words, and signals that were read before."""

    accuracy: dict[Architecture, float]
    cost: FloatArray
    words: str
    signals: pd.DataFrame = field(default_factory=pd.DataFrame)


def audit_signals(
    truth: str,
    *,
    data: str | None = None,
    signals: Iterable[str] = (),
    resolution: Resolution = 64,
    seed: int = 0,
    watch: Callable[[Progress], object] = ignore,
) -> tuple[str, list[SignalAudit]]:
    """Return what the accuracies are, in words, and what signals of untrained networks say of them.

    Of a study (`truth`) its complete networks are ranked by their accuracy, but for estimates; of a space the published
    ones of its family by their ImageNet top-1; of a StarBench table those trained at the fidelity "proxy". Where a
    table has signals, these are taken and nothing is read anew. Fields are flipped of the smallest six of these
    networks, or of thirty drawn ones of a space. Without `signals` all are read, with AZ-NAS's combination.
    """
    known, drawn = _find(truth, seed)
    signals = [part for name in signals for part in (AZ_NAS if name == "az_nas" else (name,))]
    top1, networks = np.array(list(known.accuracy.values())), list(known.accuracy)
    is_read = not known.signals.empty
    if is_read and data is not None:
        raise SpecError(
            f"The signals of {truth} are in its table, read off images of the data it was made with: drop --data."
        )
    some = networks if is_read else sorted(drawn or networks, key=count_macs)[:_FLIPPED]
    pairs = pd.DataFrame([flipped(network) for network in some])
    asked = () if is_read else dict.fromkeys((*networks, *(one for pair in pairs.to_numpy().ravel() for one in pair)))
    batches = make_batches(None if data is None else open_data(data), resolution=resolution, seed=seed)
    read = follow(read_signals(list(asked), batches, names=signals, seed=seed), watch)
    seconds = {} if is_read else read.attrs["seconds"]
    values = known.signals.reindex(columns=read.columns) if is_read else read.set_axis(list(asked))
    if set(AZ_NAS) <= set(values):
        values["az_nas"] = az_nas(values)
        seconds["az_nas"] = sum(seconds.get(name, math.nan) for name in AZ_NAS)
    num_params = np.array([count_params(one) for one in networks], dtype=float)
    found = []
    for name in values:
        value = values[name].to_dict()
        ranked = np.array([value[one] for one in networks])
        sees = {
            str(flip): sight(*([value.get(one, math.nan) for one in side] for side in zip(*pairs[flip], strict=True)))
            for flip in pairs
        }
        ranking = audit(ranked, top1, num_params=num_params, cost=known.cost, seed=seed)
        found.append(SignalAudit(signal=str(name), ranking=ranking, sees=sees, seconds=seconds.get(name, math.nan)))
    return known.words, found


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
    return _Truth(accuracy=accuracy, cost=macs, words=f"published ImageNet top-1 of {len(accuracy)} networks")


def _of_study(study: str) -> _Truth:
    view = load_study(study).view
    ranked = accuracy_of(view.objectives)
    trials = view.complete.drop_duplicates("architecture_text")
    if ranked is not None and f"{ranked.name}_kind" in trials:  # an estimate is made of what signals are judged by
        trials = trials[trials[f"{ranked.name}_kind"] != "estimated"]
    if ranked is None or len(trials) < LEAST:
        raise StudyError(
            f"{study} has {counted(len(trials), 'complete network')} with an accuracy that is no estimate; three are "
            "needed."
        )
    networks = [parse_architecture(text).canonical() for text in trials["architecture_text"]]
    return _Truth(
        accuracy=dict(zip(networks, trials[ranked.name].astype(float), strict=True)),
        cost=costs(trials, view.objectives),
        words=f"{ranked.name} of {len(networks)} networks of {study}",
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
    cost, what = (trained["macs"], "multiply-adds") if latency_ms.isna().any() else (latency_ms, "latency")
    return _Truth(
        accuracy=dict(zip(networks, trained["top1_percent"].tolist(), strict=True)),
        cost=cost.to_numpy(float),
        words=f"top-1 at 'proxy' of {len(trained)} networks of {folder}, cost by {what}",
        signals=signals if signals.empty else signals.reindex(trained.index).set_axis(networks),
    )
