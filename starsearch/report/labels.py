"""How measured quantities and anchors are written for the eyes: label, unit, decimals."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, replace

_UNIT_SUFFIXES = {
    "_percent": "%",
    "_ms": "ms",
    "_s": "s",
    "_mb": "MB",
    "_mj": "mJ",
    "_per_second": "/s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """A measured quantity as a reader sees it.

    Attributes:
        name: of the measurement, with its unit: "latency_ms".
        label: in words: "Latency".
        stem: the name without its unit: "latency".
        unit: after scaling; "" for a bare number.
        scale: a value times `scale` is in `unit`.
        decimals: after scaling.
    """

    name: str
    label: str
    stem: str
    unit: str = ""
    scale: float = 1.0
    decimals: int = 2

    @property
    def heading(self) -> str:
        """The label with its unit: "Latency (ms)"."""
        return f"{self.label} ({self.unit})" if self.unit else self.label

    def number(self, value: float) -> str:
        """The scaled value without its unit; "–" where it was not measured."""
        return f"{value * self.scale:.{self.decimals}f}" if math.isfinite(value) else "–"

    def with_spread(self, value: float, spread: float | None) -> str:
        """`number`, followed by " ± spread" where there is one."""
        if spread is None or not math.isfinite(spread) or not math.isfinite(value):
            return self.number(value)
        return f"{self.number(value)} ± {self.number(spread)}"

    def predicted(self, value: float) -> str:
        """`number` marked as predicted: "≈ 2.25"."""
        return f"≈ {self.number(value)}" if math.isfinite(value) else self.number(value)

    def change(self, value: float) -> str:
        """A difference with its sign and unit: "−0.42 ms"; of percentages in percentage points: "+1.20 pp"."""
        if not math.isfinite(value):
            return "–"
        text = f"{value * self.scale:+.{self.decimals}f}".replace("-", "−")
        return f"{text} {'pp' if self.unit == '%' else self.unit}".rstrip()


QUANTITIES = {
    "top1_percent": Quantity(name="top1_percent", label="Top-1", stem="top1", unit="%"),
    "top5_percent": Quantity(name="top5_percent", label="Top-5", stem="top5", unit="%"),
    "latency_ms": Quantity(name="latency_ms", label="Latency", stem="latency", unit="ms"),
    "int8_latency_ms": Quantity(name="int8_latency_ms", label="Int8 latency", stem="int8_latency", unit="ms"),
    "coreml_cpu_percent": Quantity(name="coreml_cpu_percent", label="Core ML on the CPU", stem="coreml_cpu", unit="%"),
    "int8_top1_percent": Quantity(name="int8_top1_percent", label="Int8 top-1", stem="int8_top1", unit="%"),
    "macs": Quantity(name="macs", label="MACs", stem="macs", unit="M", scale=1e-6, decimals=1),
    "num_params": Quantity(name="num_params", label="Params", stem="num_params", unit="M", scale=1e-6),
}


def quantity(name: str) -> Quantity:
    """How the measurement `name` is written; a name that is not known is read by its unit's suffix.

    What stands behind an @ is the label of a device: "latency_ms@phone" is "Latency @phone (ms)".
    """
    if name in QUANTITIES:
        return QUANTITIES[name]
    base, at, device = name.partition("@")
    if at and base in QUANTITIES:
        known = QUANTITIES[base]
        return replace(known, name=name, label=f"{known.label} @{device}", stem=f"{known.stem}@{device}")
    suffix = next((suffix for suffix in _UNIT_SUFFIXES if name.endswith(suffix)), "")
    stem = name.removesuffix(suffix)
    label = stem.replace("_", " ").strip().capitalize() or name
    return Quantity(name=name, label=label, stem=stem, unit=_UNIT_SUFFIXES.get(suffix, ""))


def anchor_label(anchor: str) -> str:
    """The short name: "S1" for "starnet_s1"; any other name as it is."""
    found = re.fullmatch(r"starnet_(s\d+)", anchor)
    return found[1].upper() if found else anchor
