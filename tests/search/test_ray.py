"""Studies on a real Ray cluster of this machine."""

import os
import threading
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from starsearch.api.workplaces import Workplace
from starsearch.errors import StudyError
from starsearch.evaluators.latency import LatencyEvaluator
from starsearch.latency.device import device_fingerprint
from starsearch.latency.reference import Reference
from starsearch.records.table import load_trials
from starsearch.search.ray_cluster import connected, room, wait_for_room
from starsearch.search.ray_executor import RayExecutor, Requirements, Stage, host_identity, versions
from starsearch.study.runner_file import LocalRunner, RayRunner, TaskResources
from starsearch.testing import ExecutorContract
from tests.search.studies import FakeEvaluator, make_spec, run, url_of
from tests.search.workers import Timer, Untimed, Worker

pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own


@pytest.fixture(scope="module")
def _connection(ray_cluster):
    """One for all, since Ray starts new workers for each."""
    with connected(RayRunner(address=ray_cluster.address)):
        yield


@pytest.fixture
def notes(_connection, tmp_path):
    """Where evaluations leave notes, in a study's folder that is worked on by the cluster."""
    (tmp_path / "notes").mkdir()
    return tmp_path / "notes"


def make_executor(evaluator, folder, *after, cpu=1, custom=None, requirements=None, **runner):
    requirements = requirements or Requirements(folder=str(folder))
    resources = TaskResources(cpu=cpu, custom=custom or {})
    stage = Stage(evaluator=evaluator, resources=resources, requirements=requirements)
    return RayExecutor(RayRunner(**runner), stage, *after)


class TestRayExecutor(ExecutorContract):
    @pytest.fixture
    def make_executor(self, notes):
        return lambda evaluator: make_executor(evaluator, notes.parent)


def run_there(folder, evaluator, *after, trials=6, watch=lambda _event: None, **options):
    def make(evaluator):
        return make_executor(evaluator, folder, *after, **options)

    return run(folder, make_spec(trials=trials), evaluator, make_executor=make, watch=watch)


def table_of(folder, state=None):
    trials = load_trials(url_of(folder))
    return trials if state is None else trials[trials["state"] == state]


def test_it_finds_what_this_process_finds(notes, tmp_path):
    (tmp_path / "here").mkdir()
    run(tmp_path / "here", make_spec(trials=11), FakeEvaluator())
    assert run_there(tmp_path, Worker(str(notes)), trials=11).why == "complete"
    columns = ["architecture", "top1_percent", "latency_ms", "macs", "state"]
    here, there = (
        table_of(folder)[columns].sort_values("architecture").reset_index(drop=True)
        for folder in (tmp_path / "here", tmp_path)
    )
    assert here.equals(there)
    assert str(os.getpid()) not in {path.read_text() for path in notes.iterdir()}


def test_a_worker_that_dies_costs_no_trial(notes, tmp_path):
    assert run_there(tmp_path, Worker(str(notes), {16: "die once"}), trials=11).why == "complete"
    lost, complete = table_of(tmp_path, "INTERRUPTED"), table_of(tmp_path, "COMPLETE")
    assert len(lost) == 4
    assert lost["reason"].str.startswith("Its worker was lost").all()
    assert len(complete) == 12
    assert complete["architecture"].is_unique


@pytest.mark.slow
def test_a_candidate_that_kills_every_worker_fails_at_last(notes, tmp_path):
    run_there(tmp_path, Worker(str(notes), {16: "die"}), trials=11)
    killers = table_of(tmp_path).query("state != 'COMPLETE'")
    # A task that waits for a worker that dies is lost with it, at most twice, before its own first try begins.
    assert killers.groupby("architecture").size().between(3, 5).tolist() == [True] * 4
    assert killers["reason"].str.contains("last of 3 tries").sum() == 4
    assert len(table_of(tmp_path, "COMPLETE")) == 8


def test_a_node_that_is_taken_away_costs_no_trial_and_one_that_comes_is_used(ray_cluster, notes, tmp_path):
    gate = notes / "gate"
    os.mkfifo(gate)
    node = ray_cluster.add_node(num_cpus=2, resources={"shaky": 2})
    ray_cluster.wait_for_nodes()
    waiting, come = [], []

    def watch(event):
        # Both evaluations wait on the node: it goes.
        if type(event).__name__ == "TrialProgressed":
            waiting.append(event)
            if len(waiting) == 2:
                ray_cluster.remove_node(node, allow_graceful=False)
                come.append(ray_cluster.add_node(num_cpus=2, resources={"shaky": 2}))

    evaluator = Worker(str(notes), dict.fromkeys((16, 24, 32), "wait once"))
    try:
        with open_later(gate):
            ended = run_there(tmp_path, evaluator, custom={"shaky": 1.0}, workers=2, watch=watch)
    finally:
        for one in come:
            ray_cluster.remove_node(one)
        ray_cluster.wait_for_nodes(timeout=60)  # until it is known to be gone, for the tests that count nodes
    assert ended.why == "complete"
    assert table_of(tmp_path)["state"].value_counts().to_dict() == {"COMPLETE": 7, "INTERRUPTED": 2}


@contextmanager
def open_later(gate):
    """Evaluations that wait at the gate after the node has gone are let through: the gate stays open."""
    stop = threading.Event()

    def keep_open():
        # Two wait and die with their node; a writer that comes before a reader waits for it, so it is opened
        # without waiting, again and again until the study ends.
        while not stop.wait(0.05):
            if len(list(gate.parent.glob("*-*-*"))) <= 2:
                continue
            try:
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
            except OSError:  # nobody waits
                continue

    thread = threading.Thread(target=keep_open, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_an_error_and_a_time_limit_are_single_failed_trials_whose_logs_say_where(notes, tmp_path):
    os.mkfifo(notes / "gate")
    run_there(tmp_path, Worker(str(notes), {16: "raise", 24: "wait"}), trials=11, time_limit_s=3.0)
    failed = table_of(tmp_path, "FAIL").set_index("number")["reason"]
    raised = failed[failed.str.startswith("ValueError: the network is no good (logs/trial-")]
    late = failed[failed.str.contains("longer than the runner's 3 s")]
    assert (len(raised), len(late), len(failed)) == (4, 4, 8)
    assert "Traceback" in (tmp_path / f"logs/trial-{raised.index[0]}.txt").read_text()
    assert "workers.py" in (tmp_path / f"logs/trial-{late.index[0]}.txt").read_text(), "where it hung"
    assert len(table_of(tmp_path, "COMPLETE")) == 4
    assert not list(tmp_path.glob(".trial-*"))


def test_what_no_candidate_can_help_ends_the_study_and_the_trial_runs_again_later(notes, tmp_path):
    with pytest.raises(StudyError, match=r"^The disk is full\.$"):
        run_there(tmp_path, Worker(str(notes), dict.fromkeys((16, 24, 32), "stop")))
    assert "RUNNING" not in set(table_of(tmp_path)["state"])
    assert run_there(tmp_path, Worker(str(notes))).why == "complete"


def test_latency_is_measured_on_the_node_that_is_the_device_and_nowhere_else(notes, tmp_path):
    import ray

    timing = Stage(
        evaluator=Timer(str(notes)),
        resources=TaskResources(cpu=1, custom={"phone": 1.0}),
        requirements=Requirements(folder=str(tmp_path)),
    )
    run_there(tmp_path, Untimed(), timing)
    trials = table_of(tmp_path)
    assert (trials["latency_ms"] == 1.0).all()
    assert trials["top1_percent"].notna().all()
    (phone,) = (node["NodeID"] for node in ray.nodes() if "phone" in node["Resources"])
    assert {path.read_text() for path in notes.glob("timed-*")} == {phone}


@pytest.mark.usefixtures("_connection")
def test_a_cluster_counts_what_fits_on_each_of_its_nodes():
    assert room(TaskResources(cpu=1)) == 4
    assert room(TaskResources(cpu=1.5)) == 2
    assert room(TaskResources(cpu=0.1)) == 40
    assert room(TaskResources(cpu=1, custom={"phone": 1.0})) == 1


@pytest.mark.usefixtures("_connection")
@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"gpu": 3}, [r"(1 CPU, 3 GPU)"]),
        ({"custom": {"phone": 1.0}, "cpu": 64}, ["(64 CPU, 1 phone)"]),
        ({"custom": {"phon": 1.0}}, ["resource 'phon'", "Did you mean 'phone'?", "ray start", "'{\"phon\": 1}'"]),
    ],
)
def test_what_no_node_has_is_refused_instead_of_waited_for(wanted, words):
    with pytest.raises(StudyError) as caught:
        wait_for_room(TaskResources(**wanted), RayRunner(wait_s=0.0))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("address", "words"),
    [("127.0.0.1:1", r"no Ray cluster at '127\.0\.0\.1:1'"), ("ray://10.0.0.1:10001", "Ray Client cannot stream")],
)
def test_an_address_without_a_cluster_is_refused_at_once(monkeypatch, address, words):
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(StudyError, match=words), connected(RayRunner()):
        pass


class Blind:
    def check(self):
        Path("/no/such/data").read_bytes()


@pytest.mark.parametrize(
    ("change", "evaluator", "words"),
    [
        ({"versions": {**versions(), "torch": "1.0"}}, None, "against 1.0.*ship_code"),
        ({}, Blind(), "cannot read the data: FileNotFoundError.*\n.*same on every node"),
        ({"folder": "/no/such/study"}, None, "does not see the study's folder /no/such/study.*--out"),
        ({"device": "Another, 1 thread"}, None, "is another machine: .*those of Another, 1 thread"),
        ({"host": "another"}, None, "is another machine than the driver's.*device: NAME"),
        ({"host": host_identity(), "device": device_fingerprint().text}, None, None),
    ],
)
def test_a_node_must_meet_what_the_study_requires(tmp_path, change, evaluator, words):
    requirements = Requirements(**{"folder": str(tmp_path)} | change)
    if words is None:
        requirements.check(evaluator)
        return
    with pytest.raises(StudyError, match=f"The node .*{words}"):
        requirements.check(evaluator)


def test_a_worker_checks_its_node_before_its_first_evaluation(notes, tmp_path):
    elsewhere = Requirements(folder=str(tmp_path), host="another machine")
    with pytest.raises(StudyError, match="is another machine than the driver's"):
        run_there(tmp_path, Worker(str(notes)), requirements=elsewhere)
    assert not list(notes.iterdir())


@dataclass(frozen=True)
class Timed:
    """The part of a proxy evaluator that a workplace asks for."""

    timing: LatencyEvaluator | None
    int8: bool = False


@pytest.fixture
def workplace(monkeypatch, tmp_path):
    """Makes workplaces on the cluster that this process is connected to."""

    @contextmanager
    def already(_runner):
        yield

    monkeypatch.setattr("starsearch.search.ray_cluster.connected", already)
    return lambda runner: closing(Workplace(runner, make_spec(), tmp_path))


@pytest.mark.usefixtures("_connection")
@pytest.mark.parametrize(
    ("processor", "int8", "words"),
    [
        (None, False, None),
        ("Another processor", False, r"but is another machine: .* those of Another processor"),
        (None, True, "int8"),
    ],
)
def test_a_device_that_is_not_the_one_of_the_studys_scale_is_refused_before_anything_is_trained(
    workplace, processor, int8, words
):
    device = device_fingerprint(processor=processor) if processor else device_fingerprint()
    scale = Reference(ms=10.0, spread=0.1, runs=10, device=device)
    timing = LatencyEvaluator(reference=scale, timed=("latency_ms",), resolution=32, num_classes=10)
    evaluator = Timed(timing=timing, int8=int8)
    with workplace(RayRunner(wait_s=0.0, device="phone")) as place:
        assert place.ask_device(device_fingerprint) == device_fingerprint()
        if words is None:
            place.make_executor(evaluator)
            return
        with pytest.raises(StudyError, match=words):
            place.make_executor(evaluator)


@pytest.mark.parametrize(
    ("runner", "is_here"),
    [
        (LocalRunner(), True),
        (LocalRunner(workers=2), False),
        (LocalRunner(threads=1), False),
        (LocalRunner(time_limit_s=60.0), False),  # an evaluation in this process cannot be ended
    ],
)
def test_one_worker_is_this_process_unless_it_has_to_be_stopped(runner, is_here):
    assert runner.is_this_process is is_here
    there = runner.on_ray()
    assert (there.address, there.workers, there.time_limit_s) == ("local", runner.workers, runner.time_limit_s)
    assert there.resources.cpu * there.workers <= os.cpu_count()
