"""Space files: the documents, and the `SearchSpace` that they describe.

embed_dim: {low: 16, high: 48, step: 4}          a range
kernel_size: [3, 5, 7]                           a list: one choice for the whole network
ops: {each: [star, sum]}                         each stage for itself
depths: [{low: 1, high: 4}, 2, {low: 2, high: 12}, {low: 1, high: 6}]    a value for each stage
depths: {choices: [[2, 2, 8, 3], [1, 2, 6, 2]]}  one of these shapes
act_type: gelu                                   fixed, also {fixed: gelu}
resolution: [128, 192, 224, 192x320]             not the architecture's: at which it is trained, deployed and timed
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Generic, Self, TypeVar

from annotated_types import Ge, Gt, MinLen
from pydantic import Discriminator, Field, Tag, model_validator

from starsearch.errors import ArchitectureError, SpecError, did_you_mean
from starsearch.families.family import FAMILIES, find_family, presets
from starsearch.families.fields import Rule, rules_of
from starsearch.objective import Constraint
from starsearch.resolution import Between, Resolution, area, recorded
from starsearch.space import ChoiceParameter, Dimension, FloatParameter, IntParameter, Parameter, SearchSpace, Slot
from starsearch.space import Fixed as FixedSlot
from starsearch.space.parameters import describe_parameter
from starsearch.space.space import RESOLUTION, constrained_quantity
from starsearch.study.validation import Document, broken, shorten, validate
from starsearch.yaml_file import Location, YamlFile, read_yaml

Number = TypeVar("Number", bound=float)
# More values than this in one dimension are a slip of the pen, and slow to count.
_MAX_VALUES = 10_000
CONSTRAINED = ("macs", "num_params")
DEPLOYED = Between(32, 1024)


class Range(Document, Generic[Number]):
    """The numbers from `low` to `high`, both included."""

    low: Number
    high: Number
    step: Annotated[int | float, Gt(0)] | None = None
    log: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        low, high, step = self.low, self.high, self.step
        if low > high:
            raise broken(f"low is at most high; got low {low:g}, high {high:g}.")
        if step is not None and self.log:
            raise broken("a range has a step or log: true, not both.")
        if self.log and low <= 0:
            raise broken(f"low is above 0 where log is true; got {low:g}.")
        if step is not None and abs((high - low) / step - round((high - low) / step)) > 1e-9:
            last = low + (high - low) // step * step
            raise broken(f"the step {step:g} from {low:g} misses high {high:g}; the last value before is {last:g}.")
        count = (high - low) / (step or 1)
        if (step is not None or isinstance(low, int)) and count > _MAX_VALUES:
            raise broken(f"a range has at most {_MAX_VALUES:,} values; got {count:,.0f}. Take a larger step.")
        return self

    def parameter(self, name: str, *, integer: bool, error: Callable[[str], SpecError]) -> Parameter:
        """Return what a sampler chooses; `error` makes the error of a fraction among integers."""
        low, high, step = self.low, self.high, self.step
        if not integer:
            step = None if step is None else float(step)
            return FloatParameter(name=name, low=float(low), high=float(high), step=step, log=self.log)
        if not all(isinstance(number, int) for number in (low, high, step or 1)):
            raise error(f"low, high and step are integers; got {low}, {high}, {step}.")
        return IntParameter(name=name, low=int(low), high=int(high), step=int(step or 1), log=self.log)


Scalar = bool | int | float | str | None


class Choices(Document):
    """One of these values, or of these lists with a value for each stage."""

    choices: list[Scalar | list[Scalar]]


class Fixed(Document):
    """A value that is not searched."""

    fixed: Scalar | list[Scalar]


def _branch(said: Any) -> str:
    """Return which branch of the unions below `said` is."""
    if isinstance(said, Mapping):
        return next((key.capitalize() for key in ("each", "stages", "choices", "fixed") if key in said), "Range")
    return "List" if isinstance(said, list) else "Scalar"


def _slot_branch(said: Any) -> str:
    branch = _branch(said)
    return "Range" if branch in ("Each", "Stages") else branch  # which says that the key is unknown there


_Single = (
    Annotated[Range[int | float], Tag("Range")]
    | Annotated[Choices, Tag("Choices")]
    | Annotated[Fixed, Tag("Fixed")]
    | Annotated[Scalar, Tag("Scalar")]
)
SlotForm = Annotated[_Single | Annotated[list[Scalar | list[Scalar]], Tag("List")], Discriminator(_slot_branch)]


class Each(Document):
    """The same choice in every stage, each for itself."""

    each: SlotForm


class Stages(Document):
    """What each stage may have."""

    stages: list[SlotForm]


Form = Annotated[
    _Single | Annotated[list[SlotForm], Tag("List")] | Annotated[Each, Tag("Each")] | Annotated[Stages, Tag("Stages")],
    Discriminator(_branch),
]


class Bounds(Document):
    """Inclusive bounds of a quantity."""

    min: Annotated[float, Ge(0)] | None = None
    max: Annotated[float, Ge(0)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.min is None and self.max is None:
            raise broken("a constraint has min, max or both; got neither.")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise broken(f"min is at most max; got min {self.min:g}, max {self.max:g}.")
        return self


class SpaceFile(Document):
    """A space: which architectures there are."""

    family: str = Field(default="starnet", json_schema_extra={"enum": list(FAMILIES)})
    resolution: Annotated[Resolution, DEPLOYED] = 224
    dimensions: Annotated[dict[str, Form], MinLen(1)]
    constraints: dict[str, Bounds] = Field(default={})
    anchors: list[str] = Field(default=[])


SPACE_KEYS = tuple(SpaceFile.model_fields)


def load_space(path: Path) -> SearchSpace:
    """Return the space that a file describes, checked as far as it can be without training."""
    return parse_space(read_yaml(path))


def parse_space(file: YamlFile) -> SearchSpace:
    """Return the space of a file that is already read."""
    said = validate(SpaceFile, file.data, file=file)
    check_known(file, ("family",), "family", said.family, tuple(FAMILIES))
    kind = find_family(said.family)
    rules = rules_of(kind)
    searched = said.dimensions.pop(RESOLUTION, None)
    for name in said.dimensions:
        if name not in rules:
            raise file.error(
                ("dimensions", name),
                f"unknown dimension {name!r}.{did_you_mean(name, [*rules, RESOLUTION])} {kind.title} has: "
                f"{', '.join(rules)}; any family has {RESOLUTION}.",
            )
    searched_resolution = None if searched is None else _searched_resolution(file, searched)
    resolution = said.resolution
    if searched_resolution is not None:
        values = [recorded(one) for one in searched_resolution.values]
        resolution = resolution if "resolution" in said.model_fields_set else max(values, key=area)
        if resolution not in values:
            message = f"it is one of the searched ones ({describe_parameter(searched_resolution)}); got {resolution}."
            raise file.error((RESOLUTION,), message)
    if {"widths", "embed_dim"} <= set(said.dimensions):
        raise file.error(("dimensions", "embed_dim"), "widths says every stage's channels; leave embed_dim out.")
    for name in said.constraints:
        check_known(file, ("constraints", name), "constraint", name, CONSTRAINED)
    num_stages = _num_stages(said.dimensions, rules["depths"])
    space = SearchSpace(
        name=file.path.stem,
        family=said.family,
        resolution=resolution,
        searched_resolution=searched_resolution,
        num_stages=num_stages,
        dimensions=tuple(
            replace(_dimension(file, rules[name], form, num_stages), family=said.family)
            for name, form in said.dimensions.items()
        ),
        constraints=tuple(Constraint(name=name, low=one.min, high=one.max) for name, one in said.constraints.items()),
    )
    _check_satisfiable(file, space)
    return with_anchors(file, ("anchors",), said.anchors, space)


def _searched_resolution(file: YamlFile, form: Any) -> IntParameter | ChoiceParameter:
    """Return what a candidate's resolution may be: a range of whole numbers, or a list of resolutions."""
    at: Location = ("dimensions", RESOLUTION)
    try:
        match form:
            case Range():
                for end in (form.low, form.high):
                    DEPLOYED(end)
                found = form.parameter(RESOLUTION, integer=True, error=SpecError)
                assert isinstance(found, IntParameter)
                return found
            case Choices(choices=[*values]) | [*values] if values:
                return ChoiceParameter(name=RESOLUTION, choices=tuple(DEPLOYED(one) for one in values))
    except SpecError as error:
        raise file.error(at, str(error)) from None
    raise file.error(at, "a searched resolution is a range or a list; a single one stands above, as resolution.")


def check_known(file: YamlFile, at: Location, what: str, name: str, known: tuple[str, ...], more: str = "") -> None:
    """Refuse a name that is not `known`."""
    if name not in known:
        nearest = did_you_mean(name, known)
        raise file.error(at, f"unknown {what} {name!r}.{nearest} Known: {', '.join(known)}{more}.")


def with_anchors(file: YamlFile, at: Location, names: list[str], space: SearchSpace) -> SearchSpace:
    """Return the space with anchors of these names, each of which has to lie in it."""
    for index, name in enumerate(names):
        where = (*at, index)
        check_known(file, where, "anchor", name, tuple(presets()))
        if name in names[:index]:
            raise file.error(where, f"{name} stands twice; keep one.")
        why = space.why_outside(presets()[name])
        if why is not None:
            raise file.error(where, f"{name} lies outside the space: {why} Widen the space or leave the anchor out.")
    return replace(space, anchors=tuple(names))


def _num_stages(dimensions: Mapping[str, Any], depths: Rule) -> int:
    """Return how many stages the first dimension names that names them one by one; else the default's."""
    for name in ("depths", "widths"):
        match dimensions.get(name):
            case (
                Stages(stages=[_, *_] as found)
                | Fixed(fixed=[_, *_] as found)
                | Choices(choices=[[_, *_] as found, *_])
                | ([_, *_] as found)
            ):
                return len(found)
    return len(depths.default)


def _dimension(file: YamlFile, rule: Rule, form: Any, num_stages: int) -> Dimension:
    name, at = rule.name, ("dimensions", rule.name)
    if isinstance(form, Each | Stages) and not rule.per_stage:
        raise file.error(at, f"{name} has one value for the whole network; each and stages are for values a stage.")
    stages: list[tuple[Location, Any]]
    match form:
        case Each():
            stages = [((*at, "each"), form.each)] * num_stages
        case Stages():
            stages = [((*at, "stages", index), one) for index, one in enumerate(form.stages)]
        # [2, 2, 8, 3] are depths; [3, 5, 7] are kernels to choose from.
        case list() if rule.per_stage and (not rule.of_blocks or any(isinstance(one, list | Document) for one in form)):
            stages = [((*at, index), one) for index, one in enumerate(form)]
        case _:
            return Dimension(field=name, slots=(_Slots(file, rule, num_stages).slot(at, form, name),))
    if len(stages) != num_stages:
        raise file.error(at, f"a value for each of the {num_stages} stages is needed; got {len(stages)}.")
    of_stage = _Slots(file, rule, None)
    slots = tuple(of_stage.slot(where, one, f"{name}.{stage}") for stage, (where, one) in enumerate(stages))
    return Dimension(field=name, slots=slots, by_stage=True)


class _Slots:
    """Slots of one field; `num_stages` is None where a slot is one stage's."""

    def __init__(self, file: YamlFile, rule: Rule, num_stages: int | None) -> None:
        self._file, self._rule, self._num_stages = file, rule, num_stages

    def slot(self, at: Location, form: Any, name: str) -> Slot:
        match form:
            case Range():
                return self._range(at, form, name)
            case Choices():
                return self._choice((*at, "choices"), form.choices, name)
            case list():
                return self._choice(at, form, name)
            case Fixed():
                return FixedSlot(value=self._value((*at, "fixed"), form.fixed))
            case _:
                return FixedSlot(value=self._value(at, form))

    def _range(self, at: Location, said: Range[int | float], name: str) -> Parameter:
        rule, step = self._rule, said.step
        if rule.kind == "choice":
            known = ", ".join(rule.choices)
            raise self._file.error(at, f"{rule.name} is chosen from a list of {known}; got a range.")
        for end in (said.low, said.high):
            self._check(at, end)
        integer = rule.kind == "int" or all(isinstance(one, int) for one in (said.low, said.high, step or 1))
        if not integer and step is None:
            raise self._file.error(at, f"a range of {rule.name} with fractions needs a step, to count its values.")
        if rule.odd and (step or 1) % 2 and said.low != said.high:
            raise self._file.error(at, f"{rule.name} is odd, so its step is even; got step {step or 1:g}.")
        return said.parameter(name, integer=integer, error=lambda message: self._file.error(at, message))

    def _choice(self, at: Location, said: list[Any], name: str) -> Parameter:
        if not said:
            raise self._file.error(at, "a list of choices has at least one; got none.")
        found = [self._value((*at, index), one) for index, one in enumerate(said)]
        # A sampler is shown the text of a choice with a value for each stage.
        values = [self._rule.format(one, whole=True) if isinstance(one, tuple) else one for one in found]
        for index, value in enumerate(values):
            if value in values[:index]:
                raise self._file.error((*at, index), f"{shorten(said[index])} stands twice; keep one.")
        return ChoiceParameter(name=name, choices=tuple(values))

    def _value(self, at: Location, said: Any) -> Any:
        """Return one value, or a tuple with one for each stage where the slot is the whole network's."""
        if isinstance(said, list) and self._rule.per_stage and self._num_stages is not None:
            if len(said) != self._num_stages:
                message = f"a value for each of the {self._num_stages} stages is needed; got {len(said)}."
                raise self._file.error(at, message)
            for index, value in enumerate(said):
                self._check((*at, index), value)
            return tuple(said)
        self._check(at, said)
        return said

    def _check(self, at: Location, value: Any) -> None:
        try:
            self._rule.check(value.model_dump() if isinstance(value, Document) else value)
        except ArchitectureError as error:
            raise self._file.error(at, str(error)) from None


def _check_satisfiable(file: YamlFile, space: SearchSpace) -> None:
    """Refuse a space without networks: cost grows with every number, so corners decide one bound; two are tried."""
    has_shapes = any(isinstance(one, str) and "-" in one for p in space.parameters for one in getattr(p, "choices", ()))
    for size in ("smallest", "largest"):
        try:  # meets the rules that span several fields
            params = space.corner(largest=size == "largest")
            corner = space.decode_architecture(params)
        except ArchitectureError as error:
            raise file.error(("dimensions",), str(error)) from None
        for one in () if has_shapes else space.constraints:  # whole shapes have no corner
            bound = one.high if size == "smallest" else one.low
            value = constrained_quantity(one.name, corner, space.resolution_in(params))
            if bound is not None and (value > bound if size == "smallest" else value < bound):
                raise file.error(
                    ("constraints", one.name),
                    f"no architecture satisfies it: the {size} has {value:,}; "
                    f"{'at most' if size == 'smallest' else 'at least'} {bound:,.0f} are allowed.",
                )
    try:
        space.sample(random.Random(0))  # noqa: S311 — sampling, not secrets
    except SpecError as error:
        raise file.error(("constraints",), str(error)) from None
