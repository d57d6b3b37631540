"""`QUANTITIES`: what can be optimised, constrained and reported; a row each, with its direction, unit and label."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from starsearch.objective import Direction

_UNITS = {"_percent": "%", "_ms": "ms", "_s": "s", "_mb": "MB", "_mj": "mJ", "_per_second": "/s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured quantity as readers see it.

    Attributes:
        name: the measurement's, with its unit: "latency_ms".
        label: in words: "Latency".
        direction: which values are better; None for a quantity that is only reported.
        unit: after scaling; "" for a bare number.
        scale: a value times `scale` is in `unit`.
        decimals: after scaling.
    """

    name: str
    label: str
    direction: Direction | None = None
    unit: str = ""
    scale: float = 1.0
    decimals: int = 2

    @property
    def stem(self) -> str:
        """The name without its unit: "latency", "latency@phone"."""
        base, at, device = self.name.partition("@")
        suffix = next((suffix for suffix in _UNITS if base.endswith(suffix)), "")
        return base.removesuffix(suffix) + at + device

    @property
    def heading(self) -> str:
        """The label with its unit: "Latency (ms)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def number(self, value: float) -> str:
        """Return the scaled value without its unit; "–" where it was not measured."""
        return f"{value * self.scale:.{self.decimals}f}" if math.isfinite(value) else "–"

    def with_spread(self, value: float, spread: float | None) -> str:
        """Return the number, followed by " ± spread" where there is one."""
        has_spread = spread is not None and math.isfinite(spread) and math.isfinite(value)
        return (
            f"{self.number(value)} ± {self.number(spread)}" if spread is not None and has_spread else self.number(value)
        )

    def predicted(self, value: float, low: float | None = None, high: float | None = None) -> str:
        """Return the number marked as predicted, and its interval where that is given: "≈ 74.1 (72.7–75.4)"."""
        text = f"≈ {self.number(value)}" if math.isfinite(value) else self.number(value)
        return text if low is None or high is None else f"{text} ({self.number(low)}–{self.number(high)})"

    def text(self, value: float, kind: str, *, spread: float | None, low: float | None, high: float | None) -> str:
        """Return a value as what it is: "2.31 ± 0.02", "≈ 2.25", "≈ 74.1 (72.7–75.4)" or "73.5 published"."""
        match kind:
            case "predicted":
                return self.predicted(value)
            case "estimated":
                return self.predicted(value, low, high)
            case "published":
                return f"{self.number(value)} published"
        return self.with_spread(value, spread)

    def change(self, value: float) -> str:
        """Return a difference with sign and unit: "−0.42 ms"; of percentages in points: "+1.20 pp"."""
        if not math.isfinite(value):
            return "–"
        text = f"{value * self.scale:+.{self.decimals}f}".replace("-", "−")
        return f"{text} {'pp' if self.unit == '%' else self.unit}".rstrip()


QUANTITIES = {
    one.name: one
    for one in (
        Quantity(name="top1_percent", label="Top-1", direction="maximize", unit="%"),
        Quantity(name="top5_percent", label="Top-5", direction="maximize", unit="%"),
        Quantity(
            name="imagenet_top1_percent", label="Estimated ImageNet top-1", direction="maximize", unit="%", decimals=1
        ),
        Quantity(name="latency_ms", label="Latency", direction="minimize", unit="ms"),
        Quantity(name="int8_latency_ms", label="Int8 latency", direction="minimize", unit="ms"),
        Quantity(name="int8_top1_percent", label="Int8 top-1", direction="maximize", unit="%"),
        Quantity(name="coreml_cpu_percent", label="Core ML on the CPU", direction="minimize", unit="%"),
        Quantity(name="peak_memory_mb", label="Peak memory", direction="minimize", unit="MB", decimals=1),
        Quantity(name="file_size_mb", label="File size", direction="minimize", unit="MB"),
        Quantity(name="int8_file_size_mb", label="Int8 file size", direction="minimize", unit="MB"),
        Quantity(name="macs", label="MACs", direction="minimize", unit="M", scale=1e-6, decimals=1),
        Quantity(name="num_params", label="Params", direction="minimize", unit="M", scale=1e-6),
    )
}


def quantity(name: str) -> Quantity:
    """Return how the measurement `name` is written; an unknown one is read by its unit's suffix.

    What follows an @ is a device's label: "latency_ms@phone" is "Latency @phone (ms)".
    """
    base, at, device = name.partition("@")
    if base in QUANTITIES:
        known = QUANTITIES[base]
        return replace(known, name=name, label=f"{known.label} @{device}") if at else known
    suffix = next((suffix for suffix in _UNITS if name.endswith(suffix)), "")
    label = name.removesuffix(suffix).replace("_", " ").strip().capitalize() or name
    return Quantity(name=name, label=label, unit=_UNITS.get(suffix, ""))
