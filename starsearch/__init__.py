"""starsearch: architecture and recipe search over the star-operation design space (StarNet, "Rewrite the Stars")."""

__version__ = "0.1.0"
