"""Dominance, hypervolume, promotion. Pure; every objective is minimised (`starsearch.objective.losses` flips signs)."""

from starsearch.pareto.dominance import BoolArray, FloatArray, hypervolume, non_dominated
from starsearch.pareto.promotion import next_promotion, non_dominated_ranks, promotion_order

__all__ = [
    "BoolArray",
    "FloatArray",
    "hypervolume",
    "next_promotion",
    "non_dominated",
    "non_dominated_ranks",
    "promotion_order",
]
