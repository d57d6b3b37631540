"""`Candidate`: what one trial evaluates, an architecture with the recipe it is trained by."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from starsearch.families.family import Architecture
from starsearch.families.text import architecture_hash
from starsearch.recipe import Recipe
from starsearch.resolution import Resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """An architecture and the recipe it is trained by.

    Attributes:
        architecture: the network, in canonical form.
        recipe: how it is trained.
        anchor: the published name, if it is an anchor of the study.
        resolution: at which it is deployed, counted and timed; None for the space's.
    """

    architecture: Architecture
    recipe: Recipe
    anchor: str | None = None
    resolution: Resolution | None = None

    @property
    def network(self) -> str:
        """The architecture's hash, with "@RESOLUTION" where it is deployed at another resolution than the space's."""
        return architecture_hash(self.architecture) + (f"@{self.resolution}" if self.resolution else "")

    @property
    def key(self) -> str:
        """The network and the hash of the recipe, equal for candidates whose trainings are the same."""
        recipe_hash = hashlib.sha256(repr(self.recipe).encode()).hexdigest()[:8]
        return f"{self.network}-{recipe_hash}"
