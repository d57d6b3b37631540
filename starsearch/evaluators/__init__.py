"""Candidate and fidelity in, measurements out."""

from starsearch.evaluators.evaluator import WHOLE, Evaluation, Evaluator, TrainingPart
from starsearch.evaluators.proxy import ProxyEvaluator

__all__ = ["WHOLE", "Evaluation", "Evaluator", "ProxyEvaluator", "TrainingPart"]
