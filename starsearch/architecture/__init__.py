"""A network, fully decided: its fields, its text, its layers and its costs. No torch, no I/O."""

from starsearch.architecture.anchors import ANCHORS
from starsearch.architecture.architecture import ACT_TYPES, ACTIVATIONS, OPS, Architecture
from starsearch.architecture.cost import Convention, count_macs, count_params
from starsearch.architecture.fields import FIELDS, ArchitectureField
from starsearch.architecture.lowering import Layer, lower
from starsearch.architecture.padding import pad_channels
from starsearch.architecture.text import architecture_hash, format_architecture, parse_architecture

__all__ = [
    "ACTIVATIONS",
    "ACT_TYPES",
    "ANCHORS",
    "FIELDS",
    "OPS",
    "Architecture",
    "ArchitectureField",
    "Convention",
    "Layer",
    "architecture_hash",
    "count_macs",
    "count_params",
    "format_architecture",
    "lower",
    "pad_channels",
    "parse_architecture",
]
