"""A driver on a Ray cluster in a process of its own, some of whose evaluations wait at a gate the first time.

python -m tests.search.ray_driver_process ADDRESS FOLDER TRIALS
"""

import sys
from pathlib import Path

from starsearch.errors import StarsearchError
from starsearch.search.ray_cluster import RayCluster
from starsearch.search.ray_executor import RayExecutor
from starsearch.study.runner_file import RayRunner, TaskResources
from tests.search.studies import make_spec, run
from tests.search.workers import Worker


def main():
    address, folder, trials = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    cluster = RayCluster(RayRunner(address=address))

    def make(evaluator):
        return RayExecutor(evaluator, cluster=cluster, resources=TaskResources(cpu=1), workers=2)

    def say(event):
        print(type(event).__name__, flush=True)

    try:
        cluster.wait_for(TaskResources(cpu=1))
        worker = Worker(str(folder), {16: "wait once"})
        run(folder, make_spec(trials=trials), worker, make_executor=make, watch=say)
    except StarsearchError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
