"""The fields of an architecture: their types, rules and defaults, in one readable table.

The text form, the search space and the error messages are all read from this table, so that a new
dimension is a row here, a field of `Architecture`, and its meaning in the lowering and the module.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from starsearch.errors import ArchitectureError, did_you_mean

FAMILIES = ("starnet",)
OPS = ("star", "sum")
ACTIVATIONS = ("none", "one", "both", "post")
ACT_TYPES = ("relu6", "relu", "gelu", "silu", "hard_swish", "leaky_relu")
MAX_STAGES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureField:
    """What one field of an architecture may hold.

    Attributes:
        name: as in `Architecture` and in the YAML of a space.
        kind: the type of one value.
        default: StarNet-S1's value.
        per_stage: a tuple with a value a stage.
        of_blocks: means nothing in a stage without blocks.
        optional: may be None (not written).
        choices: for kind "choice".
        low, high: inclusive bounds, of sense rather than of taste, for numbers.
        odd: an odd number, for kernel sizes.
    """

    name: str
    kind: Literal["int", "float", "choice"]
    default: Any
    per_stage: bool = False
    of_blocks: bool = False
    optional: bool = False
    choices: tuple[str, ...] = ()
    low: float = 1
    high: float = 4096
    odd: bool = False

    def check(self, value: Any) -> None:
        """Raise `ArchitectureError` unless `value` may stand in this field (one stage's value)."""
        if self.kind == "choice":
            if value not in self.choices:
                raise ArchitectureError(
                    f"{self.name} is one of {', '.join(self.choices)}; got {value!r}."
                    f"{did_you_mean(str(value), self.choices)}"
                )
            return
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole and not (self.kind == "float" and isinstance(value, float)):
            article = "an integer" if self.kind == "int" else "a number"
            raise ArchitectureError(f"{self.name} is {article}; got {value!r}.")
        if not self.low <= value <= self.high:
            raise ArchitectureError(f"{self.name} lies in {self.low:g}..{self.high:g}; got {value!r}.")
        if self.odd and value % 2 == 0:
            raise ArchitectureError(f"{self.name} is odd, so that a map keeps its size; got {value!r}.")

    def parse(self, text: str) -> Any:
        """One value from its text.

        Raises:
            ArchitectureError: the text is not a value of this field.
        """
        value: Any = text
        if self.kind != "choice":
            try:
                value = int(text) if text.lstrip("-").isdigit() else float(text)
            except ValueError:
                article = "an integer" if self.kind == "int" else "a number"
                raise ArchitectureError(f"{self.name} is {article}; got {text!r}.") from None
        self.check(value)
        return value


_TABLE = (
    ArchitectureField(name="family", kind="choice", default="starnet", choices=FAMILIES),
    ArchitectureField(name="embed_dim", kind="int", default=24),
    ArchitectureField(name="depths", kind="int", default=(2, 2, 8, 3), per_stage=True, low=0, high=64),
    ArchitectureField(name="ops", kind="choice", default=("star",) * 4, per_stage=True, of_blocks=True, choices=OPS),
    ArchitectureField(
        name="activation", kind="choice", default=("one",) * 4, per_stage=True, of_blocks=True, choices=ACTIVATIONS
    ),
    ArchitectureField(name="act_type", kind="choice", default="relu6", choices=ACT_TYPES),
    ArchitectureField(
        name="mlp_ratio", kind="float", default=(4,) * 4, per_stage=True, of_blocks=True, low=0.25, high=16
    ),
    ArchitectureField(
        name="kernel_size", kind="int", default=(7,) * 4, per_stage=True, of_blocks=True, high=31, odd=True
    ),
    ArchitectureField(name="widths", kind="int", default=None, per_stage=True, optional=True),
    ArchitectureField(name="stem_width", kind="int", default=32),
)
FIELDS: dict[str, ArchitectureField] = {row.name: row for row in _TABLE}


def field_metadata(name: str) -> dict[str, ArchitectureField]:
    """The table's row, as `dataclasses.field` metadata."""
    return {"rule": FIELDS[name]}
