"""A driver in a process of its own, which waits for a line from its parent in every evaluation.

python -m tests.search.driver_process FOLDER TRIALS
"""

import sys
from pathlib import Path

from starsearch.errors import StarsearchError
from starsearch.signals import interrupt_on_signals
from tests.search.studies import FakeEvaluator, make_spec, run


def wait_for_parent(candidate):
    print("evaluating", candidate.key, flush=True)
    sys.stdin.readline()


def main():
    interrupt_on_signals()  # as the command line does
    folder, trials = Path(sys.argv[1]), int(sys.argv[2])
    try:
        ended = run(folder, make_spec(trials=trials), FakeEvaluator(wait_for_parent))
    except StarsearchError as error:
        print("refused", type(error).__name__, error, flush=True)
        sys.exit(2)
    print("ended", ended.why, flush=True)


if __name__ == "__main__":
    main()
