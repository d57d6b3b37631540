"""A driver on a Ray cluster in a process of its own, some of whose evaluations wait at a gate the first time.

python -m tests.search.ray_driver_process ADDRESS FOLDER TRIALS
"""

import sys
from pathlib import Path

from starsearch.errors import StarsearchError
from starsearch.search.ray_cluster import connected, wait_for_room
from starsearch.search.ray_executor import RayExecutor, Requirements, Stage
from starsearch.study.runner_file import RayRunner
from tests.search.studies import make_spec, run
from tests.search.workers import Worker


def main():
    address, folder, trials = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    runner, requirements = RayRunner(address=address, workers=2), Requirements(folder=str(folder))

    def make(evaluator):
        return RayExecutor(runner, Stage(evaluator=evaluator, resources=runner.resources, requirements=requirements))

    def say(event):
        print(type(event).__name__, flush=True)

    try:
        with connected(runner):
            wait_for_room(runner.resources, runner)
            worker = Worker(str(folder), {16: "wait once"})
            run(folder, make_spec(trials=trials), worker, make_executor=make, watch=say)
    except StarsearchError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
