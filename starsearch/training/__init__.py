"""The one training loop: a search's proxies and full trainings, in one process or many."""

from starsearch.training.hardware import Hardware
from starsearch.training.keeping import Keeping
from starsearch.training.loop import TrainingResult, train

__all__ = ["Hardware", "Keeping", "TrainingResult", "train"]
