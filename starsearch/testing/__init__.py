"""Contracts of what can be added to starsearch, as pytest classes.

Subclass one in a test module, under a name that begins with `Test`, and override its fixtures:

    class TestMyEvaluator(EvaluatorContract):
        @pytest.fixture
        def evaluator(self):
            return MyEvaluator()

Needs pytest (`pip install "starnet-search[testing]"`).
"""

from starsearch.testing.backend import BackendContract
from starsearch.testing.evaluator import EvaluatorContract
from starsearch.testing.executor import ExecutorContract
from starsearch.testing.family import FamilyContract
from starsearch.testing.format import FormatContract

__all__ = ["BackendContract", "EvaluatorContract", "ExecutorContract", "FamilyContract", "FormatContract"]
