"""The `halving:` of a study file's search: η and the rungs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from annotated_types import Ge, Le

from starsearch.study.spec import Halving, Rung
from starsearch.study.validation import shorten, validate
from starsearch.yaml_file import Location, YamlFile

if TYPE_CHECKING:
    from starsearch.study.spec import StudySpec

_RUNG_KEYS = ("epochs", "resolution", "samples")
_AT: Location = ("search", "halving")


def parse_halving(file: YamlFile, data: Any, spec: StudySpec) -> Halving | None:
    """What `search.halving` says; None where it is not there.

    `{eta: 3}` alone puts a rung at a third of the epochs, at a ninth, and so on. `rungs` lists them instead: a
    number of epochs, or a mapping with `epochs` and what the training towards it takes less of.

    Raises:
        SpecError: a rule is broken.
    """
    if data is None:
        return None
    found = validate(_make_model(), data, file=file, at=_AT, known=("eta", "rungs"))
    if any(parameter.name in ("epochs", "recipe.epochs") for parameter in spec.space.recipe_parameters):
        raise file.error(_AT, "rungs are epochs of one training: the recipe's epochs cannot be searched beside it.")
    if data.get("rungs") is None:
        rungs = _rungs_of(found.eta, spec.num_epochs)
        if not rungs:
            raise file.error(
                _AT, f"a training of {spec.num_epochs} epochs has no room for a rung with eta {found.eta}: one fits "
                f"after {spec.num_epochs} / eta epochs. Give the fidelity more epochs, or list rungs."
            )  # fmt: skip
        return Halving(eta=found.eta, rungs=rungs)
    return Halving(eta=found.eta, rungs=_parse_rungs(file, data["rungs"], spec))


def _rungs_of(eta: int, num_epochs: int) -> tuple[Rung, ...]:
    """After 1/η of the epochs, 1/η², …, as long as that is an epoch."""
    found = []
    epochs = num_epochs // eta
    while epochs >= 1:
        found.append(Rung(epochs=epochs))
        epochs //= eta
    return tuple(reversed(found))


def _parse_rungs(file: YamlFile, data: Any, spec: StudySpec) -> tuple[Rung, ...]:
    at = (*_AT, "rungs")
    if not isinstance(data, list) or not data:
        raise file.error(at, f"a list of at least one rung is needed; got {shorten(data)}.")
    rungs = tuple(_parse_rung(file, one, (*at, number)) for number, one in enumerate(data))
    before = 0
    for number, rung in enumerate(rungs):
        if not before < rung.epochs < spec.num_epochs:
            raise file.error(
                (*at, number),
                f"rungs ascend from 1 to less than the training's {spec.num_epochs} epochs; "
                f"got {', '.join(str(one.epochs) for one in rungs)}.",
            )
        before = rung.epochs
    return rungs


def _parse_rung(file: YamlFile, data: Any, at: Location) -> Rung:
    mapping = data if isinstance(data, Mapping) else {"epochs": data}
    found = validate(_make_rung_model(), mapping, file=file, at=at, known=_RUNG_KEYS)
    return Rung(epochs=found.epochs, resolution=found.resolution, samples=found.samples)


def _make_model() -> Any:
    from pydantic import BaseModel, ConfigDict

    class HalvingFile(BaseModel):
        model_config = ConfigDict(extra="forbid")
        eta: Annotated[int, Ge(2), Le(100)] = 3
        rungs: Any = None

    return HalvingFile


def _make_rung_model() -> Any:
    from pydantic import BaseModel, ConfigDict

    class RungFile(BaseModel):
        model_config = ConfigDict(extra="forbid")
        epochs: Annotated[int, Ge(1), Le(10_000)]
        resolution: Annotated[int, Ge(8), Le(1024)] | None = None
        samples: Annotated[int, Ge(1)] | None = None

    return RungFile
