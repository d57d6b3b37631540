"""What untrained networks tell of their accuracy, and what that is worth: `audit_signals`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from starsearch.accuracy.audit import LEAST, Audit, FloatArray, audit, flipped, sight
from starsearch.accuracy.evidence import published_observations
from starsearch.accuracy.signals import make_batches, read_signals
from starsearch.api.spaces import load_space_of
from starsearch.api.study import load_study
from starsearch.data import open_data
from starsearch.errors import StudyError, counted
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.text import parse_architecture
from starsearch.progress import Progress, follow, ignore
from starsearch.report.agreement import accuracy_of, costs
from starsearch.resources import shipped_names

_DRAWN, _FLIPPED = 30, 6  # networks of a space that are drawn, and the smallest of these, of which a field is flipped


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAudit:
    """What a signal is worth.

    Attributes:
        ranking: how well it ranks networks by their accuracy.
        sees: by field of `starsearch.accuracy.audit.FLIPS` what `sight` says.
        seconds: of the processor, a network.
    """

    signal: str
    ranking: Audit
    sees: dict[str, float]
    seconds: float


def audit_signals(
    space_or_study: str,
    *,
    data: str | None = None,
    signals: Iterable[str] = (),
    resolution: int = 64,
    seed: int = 0,
    watch: Callable[[Progress], object] = ignore,
) -> tuple[str, list[SignalAudit]]:
    """Return what the accuracies are, in words, and what signals of untrained networks say of them.

    Args:
        space_or_study: of a study its complete networks are ranked by their accuracy; of a space the published ones
            of its family by their ImageNet top-1. Fields are flipped of the smallest six of the study's networks, or
            of thirty drawn ones.
        data: whose training images are shown; without any, Gaussian noise.
        signals: names of `starsearch.accuracy.signals.SIGNALS`; without any, all, with AZ-NAS's combination.
        resolution: of the images, in pixels, a multiple of 32.
        seed: of images, weights, draws and bootstrap.

    Raises:
        SpecError: an unknown signal or space.
        StudyError: no such study, or fewer than three of its networks have an accuracy.
    """
    is_study = "://" in space_or_study or (
        Path(space_or_study).is_dir() and space_or_study not in shipped_names("spaces")
    )
    if is_study:
        truth, cost, words = _of_study(space_or_study)
        drawn = list(truth)
    else:
        space = load_space_of(space_or_study)
        truth, cost, words = _published(space.family)
        drawn = [one.canonical() for one in space.sample_architectures(_DRAWN, seed)]
    pairs = pd.DataFrame([flipped(network) for network in sorted(drawn, key=count_macs)[:_FLIPPED]])
    networks = list(dict.fromkeys((*truth, *(one for pair in pairs.to_numpy().ravel() for one in pair))))
    batches = make_batches(None if data is None else open_data(data), resolution=resolution, seed=seed)
    read = follow(read_signals(networks, batches, names=signals, seed=seed), watch)
    found, num_params = [], np.array([count_params(one) for one in truth], dtype=float)
    for name in read:
        value = dict(zip(networks, read[name].tolist(), strict=True))
        ranked = np.array([value[one] for one in truth])
        ranking = audit(ranked, np.array(list(truth.values())), num_params=num_params, cost=cost, seed=seed)
        sees = {
            str(field): sight([value[one] for one, _ in pairs[field]], [value[other] for _, other in pairs[field]])
            for field in pairs
        }
        found.append(SignalAudit(signal=str(name), ranking=ranking, sees=sees, seconds=read.attrs["seconds"][name]))
    return words, found


def _published(family: str) -> tuple[dict[Architecture, float], FloatArray, str]:
    """Return the published networks' first results, their multiply-adds, and what they are."""
    truth: dict[Architecture, float] = {}
    for one in published_observations():
        if one.architecture.family == family:
            truth.setdefault(one.architecture, one.value)
    if len(truth) < LEAST:
        raise StudyError(f"No accuracies of the family {family} are published: name a study of it that has run.")
    return (
        truth,
        np.array([count_macs(one) for one in truth], dtype=float),
        f"published ImageNet top-1 of {len(truth)} networks",
    )


def _of_study(study: str) -> tuple[dict[Architecture, float], FloatArray, str]:
    view = load_study(study).view
    ranked = accuracy_of(view.objectives)
    trials = view.complete.drop_duplicates("architecture_text")
    if ranked is None or len(trials) < LEAST:
        raise StudyError(f"{study} has {counted(len(trials), 'complete network')} with an accuracy; three are needed.")
    networks = [parse_architecture(text).canonical() for text in trials["architecture_text"]]
    truth = dict(zip(networks, trials[ranked.name].astype(float), strict=True))
    return truth, costs(trials, view.objectives), f"{ranked.name} of {len(truth)} networks of {study}"
