import pytest

from starsearch.api.workplaces import open_workplace, refuse_foreign_latency
from starsearch.errors import StudyError
from starsearch.search import LocalExecutor
from starsearch.search.processes import ProcessExecutor
from starsearch.search.ray_nodes import host_identity
from starsearch.study.runner_file import LocalRunner
from tests.search.studies import make_spec

HERE = host_identity()


@pytest.mark.parametrize(
    ("hosts", "device", "int8"),
    [([HERE, HERE], None, False), ([HERE], None, True), ([HERE, "gpu-7 boot"], "laptop", False), ([], None, True)],
)
def test_latency_is_measured_here_or_where_the_device_is(hosts, device, int8):
    refuse_foreign_latency(hosts, device=device, int8=int8)


@pytest.mark.parametrize(
    ("device", "int8", "words"), [(None, False, "device: NAME"), (None, True, "int8"), ("laptop", True, "int8")]
)
def test_latency_of_this_machine_is_not_measured_on_another(device, int8, words):
    with pytest.raises(StudyError, match=words):
        refuse_foreign_latency([HERE, "gpu-7 boot"], device=device, int8=int8)


@pytest.mark.parametrize(
    ("runner", "kind"),
    [
        (LocalRunner(), LocalExecutor),
        (LocalRunner(workers=2), ProcessExecutor),
        (LocalRunner(time_limit_s=60.0), ProcessExecutor),  # an evaluation in this process cannot be ended
    ],
)
def test_one_worker_is_this_process_unless_it_has_to_be_stopped(runner, kind, tmp_path):
    workplace = open_workplace(runner, make_spec(), tmp_path)
    executor = workplace.make_executor(None)
    assert isinstance(executor, kind)
    executor.close()
    workplace.close()
