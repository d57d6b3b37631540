"""`Candidate`: what one trial evaluates, an architecture with the recipe it is trained by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from starsearch.families.family import Architecture
from starsearch.families.text import architecture_hash
from starsearch.recipe import Recipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture and the recipe it is trained by.

    Attributes:
        architecture: the network, in canonical form.
        recipe: how it is trained.
        anchor: the published name, if it is an anchor of the study.
    """

    architecture: Architecture
    recipe: Recipe
    anchor: str | None = None

    @property
    def key(self) -> str:
        """The hashes of architecture and recipe, equal for candidates whose trainings are the same."""
        recipe_hash = hashlib.sha256(repr(self.recipe).encode()).hexdigest()[:8]
        return f"{architecture_hash(self.architecture)}-{recipe_hash}"
