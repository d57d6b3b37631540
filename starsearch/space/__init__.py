"""Search spaces: which architectures (and recipes) a study chooses among. Pure: no torch, no I/O."""

from starsearch.space.dimension import Dimension, Fixed, Slot
from starsearch.space.parameters import ChoiceParameter, FloatParameter, IntParameter, Parameter, Value
from starsearch.space.space import SearchSpace

__all__ = [
    "ChoiceParameter",
    "Dimension",
    "Fixed",
    "FloatParameter",
    "IntParameter",
    "Parameter",
    "SearchSpace",
    "Slot",
    "Value",
]
