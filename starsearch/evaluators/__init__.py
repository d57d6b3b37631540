"""Candidate and fidelity in, measurements out."""

from starsearch.evaluators.evaluator import Evaluation, Evaluator
from starsearch.evaluators.proxy import ProxyEvaluator

__all__ = ["Evaluation", "Evaluator", "ProxyEvaluator"]
