"""The `fidelities:` of a study file: how much is spent on judging a candidate, from cheap to dear, and who goes on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

from annotated_types import Ge, Le

from starsearch.recipe import Fidelity
from starsearch.study.spec import Promotion, Start, StudySpec
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import Location, YamlFile

PROMOTION_KEYS = ("promote", "promote_random", "start")
FIDELITY_KEYS = tuple(Fidelity.__slots__)
_AT: Location = ("fidelities",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One of the `fidelities`, with who comes to it; the first has no promotion: there the sampler chooses."""

    fidelity: Fidelity
    promotion: Promotion | None


def parse_fidelities(file: YamlFile, data: Any) -> tuple[Step, ...]:
    """The fidelities, the cheapest first.

    Raises:
        SpecError: a rule is broken.
    """
    if not isinstance(data, list) or not data:
        raise file.error(_AT, f"a list of at least one fidelity is needed; got {shorten(data)}.")
    steps = tuple(_parse_step(file, one, index) for index, one in enumerate(data))
    for index, step in enumerate(steps):
        name = step.fidelity.name
        if name in [earlier.fidelity.name for earlier in steps[:index]]:
            raise file.error((*_AT, index, "name"), f"two fidelities are called {name!r}; names tell them apart.")
        if not name.replace("-", "").replace("_", "").isalnum():
            raise file.error(
                (*_AT, index, "name"), f"a fidelity's name is letters, digits, '-' and '_'; got {shorten(name)}."
            )
    return steps


def _parse_step(file: YamlFile, data: Any, index: int) -> Step:
    at = (*_AT, index)
    if not isinstance(data, dict):
        raise file.error(at, f"a fidelity is a mapping of keys; got {shorten(data)}.")
    raw = dict(data)
    promoting = {key: raw.pop(key) for key in PROMOTION_KEYS if key in raw}
    if index == 0:
        for key in promoting:
            raise file.error((*at, key), f"{key} says who comes from the fidelity before; this is the first.")
        return Step(fidelity=_parse_fidelity(file, raw, at), promotion=None)
    if "name" not in raw:
        raise file.error(at, "the second and later fidelities have a name of their own (name: full).")
    if "promote" not in promoting:
        raise file.error(at, "how many candidates come from the fidelity before? Say promote: 5.")
    found = validate(_make_model(), promoting, file=file, at=at, known=PROMOTION_KEYS)
    promotion = Promotion(best=found.promote, random=found.promote_random, start=found.start)
    return Step(fidelity=_parse_fidelity(file, raw, at), promotion=promotion)


def _parse_fidelity(file: YamlFile, data: Any, at: Location) -> Fidelity:
    return validate(Fidelity, data, file=file, at=at, known=(*FIDELITY_KEYS, *PROMOTION_KEYS))


def check_steps(file: YamlFile, specs: tuple[StudySpec, ...]) -> None:
    """Refuse a step to which more are promoted than the one before it has.

    Raises:
        SpecError: it cannot have so many.
    """
    for index in range(1, len(specs)):
        wanted, there = specs[index].trials, specs[index - 1].trials
        if wanted > there:
            below = specs[index - 1].fidelity.name
            raise file.error((*_AT, index, "promote"), f"{wanted} are promoted, but {below!r} has {there} candidates.")


def climb(first: StudySpec, step: Step, **changed: Any) -> StudySpec:
    """The study of a later fidelity: as the first, but that candidates are promoted to it."""
    assert step.promotion is not None
    promotion = step.promotion
    return replace(
        first,
        name=f"{first.name}.{step.fidelity.name}",
        fidelity=step.fidelity,
        promotion=promotion,
        trials=promotion.best + promotion.random,
        halving=None,
        # They are few, and what a user came for.
        keep_weights="none" if first.keep_weights == "none" else "all",
        **changed,
    )


def _make_model() -> Any:
    from pydantic import BaseModel, ConfigDict

    class PromotionFile(BaseModel):
        model_config = ConfigDict(extra="forbid")
        promote: Annotated[int, Ge(0), Le(100_000)]
        promote_random: Annotated[int, Ge(0), Le(100_000)] = 0
        start: Start = "scratch"

    return PromotionFile
