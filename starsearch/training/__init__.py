"""The one training loop: a search's proxies and full trainings, in one process or many."""

from starsearch.training.hardware import Hardware, find_device
from starsearch.training.loop import TrainingResult, train
from starsearch.training.state import Keeping

__all__ = ["Hardware", "Keeping", "TrainingResult", "find_device", "train"]
