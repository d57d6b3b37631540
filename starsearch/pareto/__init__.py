"""Dominance and hypervolume. Pure; every objective is minimised (`starsearch.objective.losses` flips the signs)."""

from starsearch.pareto.dominance import BoolArray, FloatArray, hypervolume, non_dominated

__all__ = ["BoolArray", "FloatArray", "hypervolume", "non_dominated"]
