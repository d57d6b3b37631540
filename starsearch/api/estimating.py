"""Accuracy that is estimated from evidence: studies that train nothing, and what trainings say beside it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from starsearch.accuracy.evidence import IMAGENET, Observation, published_observations, shared_order
from starsearch.accuracy.posterior import Posterior, fit_posterior
from starsearch.api.study_folder import StudyPlace
from starsearch.data import DataSet
from starsearch.data.dataset import Split
from starsearch.data.synsets import imagenet_synsets
from starsearch.errors import StudyError, counted, some
from starsearch.evaluators.estimate import EstimateEvaluator, estimate_top1
from starsearch.families.family import Architecture, count_macs
from starsearch.families.fields import rules_of
from starsearch.families.text import architecture_hash, parse_architecture
from starsearch.latency.prediction.profile import load_profile
from starsearch.objective import IMAGENET_TOP1, is_latency
from starsearch.quantities import quantity
from starsearch.recipe import Fidelity
from starsearch.records.record import StudyRecord
from starsearch.resources import find_file
from starsearch.search.estimated import choose_estimated
from starsearch.search.evidence import observations
from starsearch.study.recipe_file import load_recipe
from starsearch.study.spec import StudySpec

if TYPE_CHECKING:
    import pandas as pd

    from starsearch.report.view import StudyView
    from starsearch.trial import Trial

ESTIMATES = "estimates"  # a study's attribute: what was estimated of its networks, and sentences about the evidence
_JUDGED = (IMAGENET_TOP1, "macs", "num_params")
_PIXELS = 224  # of images, in the published results
_CHANCE = 0.2  # of an order as good as a task's among the published networks, from which it is not used
_RECIPE = "starnet-imagenet"
# Only to choose what is measured here: another processor orders networks nearly as this one. By family.
_PROFILES = {"starnet": "e5-2680v4", "demonet": "epyc-demonet"}


def published_spec(specs: Sequence[StudySpec], name: str, say: Callable[[str], None]) -> StudySpec:
    """Return the study with ImageNet top-1, estimated from what is published, in place of trained top-1.

    Say what is left out of it.
    """
    spec = replace(specs[0], name=name)
    if {"top1_percent", IMAGENET_TOP1} <= {one.name for one in spec.objectives}:
        raise StudyError(
            f"A study with {IMAGENET_TOP1} trains nothing, so it has no top1_percent beside it: leave one of them out."
        )
    named = {"top1_percent": IMAGENET_TOP1}
    found = replace(
        spec,
        space=replace(spec.space, recipe_parameters=(), searched_resolution=None),
        data="imagenet-1k",
        recipe=load_recipe(_RECIPE),
        fidelity=Fidelity(name="published", resolution=_PIXELS, crop_pct=0.875, recipe=_RECIPE),
        objectives=tuple(replace(one, name=named.get(one.name, one.name)) for one in spec.objectives),
        constraints=tuple(replace(one, name=named.get(one.name, one.name)) for one in spec.constraints),
        halving=None,
        anchor_recipes=0,
        baselines=(),
        keep_weights="none",
    )
    left = {
        "fidelities": len(specs) > 1,
        "halving": spec.halving,
        "the searched recipe": spec.space.recipe_parameters,
        "the searched resolution": spec.space.searched_resolution,
        "baselines": spec.baselines,
    }
    if any(left.values()):
        say(f"Left out, for nothing is trained: {', '.join(name for name, there in left.items() if there)}.")
    if unknown := [name for name in found.quantities if name not in _JUDGED and not is_latency(name)]:
        raise StudyError(
            f"A study of published accuracy has no {', '.join(unknown)}. Leave that out of it, or leave --accuracy out "
            f"and train. Without training there are: {', '.join(_JUDGED)} and latencies."
        )
    if IMAGENET_TOP1 not in found.quantities:
        raise StudyError(
            "What is published is accuracy, and the study has no top1_percent among its objectives or constraints. "
            "Add it, or leave --accuracy out."
        )
    if not published_observations(spec.space.family):
        raise StudyError(
            f"No ImageNet result of {spec.space.family} networks ships with starsearch, so nothing can be estimated. "
            "Leave --accuracy out to train them."
        )
    return found


def published_dataset() -> DataSet:
    """Return ImageNet-1k without its images: the classes that networks are deployed with."""
    import numpy as np

    def nothing(_index: int) -> bytes:
        raise IndexError

    split = partial(Split, classes=imagenet_synsets(), targets=np.empty(0, np.int64), names=(), content=nothing)
    digest = sha256(repr(published_observations()).encode()).hexdigest()[:12]
    return DataSet(
        name="imagenet-1k", train=split(name="train"), validation=split(name="validation"), fingerprint=digest
    )


def choose_published(spec: StudySpec, say: Callable[[str], None]) -> tuple[Posterior, dict[str, list[Trial]]]:
    """Return the posterior of the published results, and by the study's name the networks that are worth measuring."""
    posterior = fit_posterior(published_observations(spec.space.family), seed=spec.seed)
    profile = load_profile(find_file(_PROFILES[spec.space.family], "profiles"))
    profiles = {name: spec.profiles.get(name, profile) for name in spec.quantities if is_latency(name)}
    judge = EstimateEvaluator(posterior=posterior, resolution=spec.space.resolution, profiles=profiles)
    planned = choose_estimated(spec, judge, 2 * spec.trials, say)  # some may fail
    worth = counted(min(len(planned), spec.trials), "network")
    say(f"Nothing is trained: of the space, {worth} will be measured, the best by what is published.")
    return posterior, {spec.name: planned}


def keep_estimates(place: StudyPlace, view: StudyView, posterior: Posterior | None = None) -> None:
    """Write into a study's record what its front in estimated ImageNet top-1 rests on, and the estimates if need be.

    Without a `posterior` the study's trials were trained: they are evidence, and their networks are estimated now.
    """
    with closing(StudyRecord.find(place.url, view.name)) as record:
        trials = [one for one in record.trials() if one.state == "complete" and not one.is_baseline]
        named = {one.name for one in view.objectives} & {IMAGENET_TOP1, "top1_percent"}
        if not named or not (seen := published_observations(record.spec.space.family)) or not trials:
            return
        told, weights = list(seen), {IMAGENET: 1.0}
        networks: list[Architecture] = []
        estimated = trials
        if posterior is None:
            own = observations(record.spec, trials)
            told += own
            tasks = {one.task for one in own}
            ranking = {task for task in tasks if shared_order(told, task, IMAGENET).chance < _CHANCE}
            posterior = fit_posterior([one for one in told if one.task in {IMAGENET, *ranking}], seed=record.spec.seed)
            weights |= dict.fromkeys((one.task for one in own), 0.0) | dict(posterior.weights)
            estimated = [one for one in trials if one.candidate.resolution in (None, record.spec.space.resolution)]
            networks = list(dict.fromkeys(one.candidate.architecture for one in estimated))
            if not networks:
                return
        found = zip(networks, estimate_top1(posterior, networks), strict=True)
        estimates: dict[str, Any] = {
            "networks": {architecture_hash(one): asdict(said) for one, said in found},
            "tasks": [evidence_row(task, weight, told) for task, weight in weights.items()],
            "lines": [_source_line(posterior, seen)],
        }
        if (pixels := record.spec.space.resolution) != _PIXELS:
            estimates["lines"].append(
                f"That is of networks at {_PIXELS} px; latency and multiply-adds here are those at {pixels} px."
            )
        if len(estimated) < len(trials):
            estimates["lines"].append(
                f"Without an estimate: {counted(len(trials) - len(estimated), 'network')} at resolutions of their own."
            )
        shown = replace(view, attributes={**view.attributes, ESTIMATES: estimates})
        shown = shown.estimated or shown
        if shown.has_front:
            estimates["lines"] += beyond_lines(shown.front[shown.front["on_front"]], posterior)
        record.set_attribute(ESTIMATES, estimates)


def _source_line(posterior: Posterior, known: Sequence[Observation]) -> str:
    networks, sources = (dict.fromkeys(getattr(one, name) for one in known) for name in ("architecture", "source"))
    return (
        f"ImageNet top-1 by the paper's recipe is published, or estimated by a {posterior.kind} over {len(known)} "
        f"published results of {len(networks)} networks ({some(sources, most=9)})."
    )


def evidence_row(task: str, weight: float, told: Sequence[Observation]) -> dict[str, Any]:
    """Return how many `observations` there are of a `task`, its learned `weight` for ImageNet, and their `meaning`."""
    if task == IMAGENET:
        meaning = "what is estimated, as published"
    elif not weight:
        meaning = "not used: it is not shown that it ranks as ImageNet does"
    else:
        meaning = f"a training here tells {100 * weight**2:.0f} % of the variance of ImageNet top-1 between networks"
    if task != IMAGENET and not math.isnan((order := shared_order(told, task, IMAGENET)).tau):
        meaning += f"; ranks {order.networks} published networks with τ {order.tau:.2f}".replace("-", "−")
    observations = sum(one.task == task for one in told)
    return {"task": task, "observations": observations, "weight": float(weight), "meaning": meaning}


def beyond_lines(front: pd.DataFrame, posterior: Posterior) -> list[str]:
    """Return which of the front's members lie beyond the evidence in some field, and what of their gain that is."""
    known = list(dict.fromkeys(one.architecture for one in published_observations()))
    own, lines = quantity(IMAGENET_TOP1), []
    for row in front.to_dict("records"):
        network = parse_architecture(str(row["architecture_text"]))
        if not (nearest := nearest_known(network, known)):
            continue
        twin = replace(network, **nearest).canonical()  # type: ignore[type-var]
        rules = rules_of(type(network))
        far, near = (
            ", ".join(f"{name}={rules[name].format(getattr(one, name))}" for name in nearest) for one in (network, twin)
        )
        here, there = (one.ranked for one in estimate_top1(posterior, [network, twin]))
        gain, macs = row[f"gain_{IMAGENET_TOP1}"], count_macs(network) / count_macs(twin) - 1
        over = f" of {own.change(gain)} over {row['nearest_anchor']}" if math.isfinite(gain) else ""
        percent = f"{100 * macs:+.0f}".replace("-", "−")
        lines.append(
            f"  trial {row['number']}: {own.change(here - there)}{over} by {far}, where {near} is the nearest known "
            f"({percent} % MACs)."
        )
    count = counted(len(front), "network")
    if not lines:
        return [f"All {count} on the front lie within what the published ones cover, or a step beyond, field by field."]
    head = (
        f"{len(lines)} of {count} on the front lie more than a step beyond what the published ones cover in some field"
    )
    return [f"{head}, which moves the lower ends of their estimates by:", *lines]


def nearest_known(network: Architecture, known: Sequence[Architecture]) -> dict[str, Any]:
    """Return the fields in which no known network comes as far as this one, with the nearest value that is known."""
    found = {}
    for name, rule in rules_of(type(network)).items():
        value, values = getattr(network, name), [getattr(one, name) for one in known if one.family == network.family]
        if isinstance(value, tuple):
            columns = zip(*(one for one in values if isinstance(one, tuple) and len(one) == len(value)), strict=True)
            near: Any = tuple(_nearest(one, column, rule.kind) for one, column in zip(value, columns, strict=False))
        else:
            near = _nearest(value, values, rule.kind)
        if near != value:
            found[name] = near
    return found


def _nearest(value: Any, known: Sequence[Any], kind: str) -> Any:
    """Return the value where it lies among the known ones, else the nearest of them.

    Of numbers that vary in what is known, a step of 1 or of a quarter beyond counts as known.
    """
    if value in known or value is None or not known:
        return value
    if kind == "choice":
        return max(known, key=known.count)
    near = min(max(value, min(known)), max(known))
    varies = min(known) < max(known)
    return value if varies and abs(value - near) <= max(1, near / 4) else near
