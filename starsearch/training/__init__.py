"""The one training loop: proxies of a search and, later, full trainings."""

from starsearch.training.loop import TrainingResult, train

__all__ = ["TrainingResult", "train"]
