"""A real Ray cluster: a head that computes nothing and two nodes, on this machine."""

import os
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from starsearch.api.workplaces import open_workplace
from starsearch.errors import StudyError
from starsearch.latency import Reference, device_fingerprint
from starsearch.records import load_trials
from starsearch.search.ray_cluster import RayCluster
from starsearch.search.ray_executor import Afterwards, Demands, RayExecutor
from starsearch.search.ray_nodes import Node, host_identity, refuse_stranger, versions
from starsearch.study.runner_file import RayRunner, TaskResources
from tests.search.studies import FakeEvaluator, make_job, make_spec, run, url_of
from tests.search.workers import Clock, Timer, Untimed, Worker, follow_away

pytestmark = pytest.mark.filterwarnings("ignore")


# A token is not written into the home folder; beside other tests Ray's polite workers would starve.
ENVIRONMENT = {"RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}


@pytest.fixture(scope="module")
def cluster():
    os.environ |= ENVIRONMENT
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    found.add_node(num_cpus=2)
    found.add_node(num_cpus=2, resources={"phone": 1})
    found.wait_for_nodes()
    yield found
    let_go()
    found.shutdown()
    for name in ENVIRONMENT:
        del os.environ[name]


SHARED = []


def connect(cluster):
    """The connection that most tests share: for each new one Ray starts new workers."""
    if not SHARED:
        SHARED.append(RayCluster(RayRunner(address=cluster.address, wait_s=0.0)))
    return SHARED[0]


def let_go():
    """End it; a process has one at a time."""
    while SHARED:
        SHARED.pop().close()


@pytest.fixture
def unshared(cluster):
    """The cluster, to which the test connects itself."""
    let_go()
    return cluster


def run_there(cluster, folder, evaluator=None, *, does=None, trials=6, resources=None, afterwards=None, **options):
    (folder / "notes").mkdir(exist_ok=True)
    evaluator = evaluator or Worker(str(folder / "notes"), does or {})
    connection = connect(cluster)

    def make(evaluator):
        return RayExecutor(
            evaluator,
            cluster=connection,
            resources=resources or TaskResources(cpu=1),
            afterwards=afterwards,
            **options,
        )

    return run(folder, make_spec(trials=trials), evaluator, make_executor=make)


def test_it_finds_what_this_process_finds(cluster, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    run(tmp_path / "here", make_spec(trials=11), FakeEvaluator())
    assert run_there(cluster, tmp_path / "there", trials=11).why == "complete"
    here, there = (load_trials(url_of(tmp_path / name)) for name in ("here", "there"))
    columns = ["architecture", "top1_percent", "latency_ms", "macs", "state"]
    by_architecture = [t[columns].sort_values("architecture").reset_index(drop=True) for t in (here, there)]
    assert by_architecture[0].equals(by_architecture[1])


def test_a_worker_that_dies_costs_no_trial(cluster, tmp_path):
    assert run_there(cluster, tmp_path, does={16: "die once"}, trials=11).why == "complete"
    trials = load_trials(url_of(tmp_path))
    lost = trials[trials["state"] == "FAIL"]
    assert len(lost) == 4
    assert lost["reason"].str.startswith("Its worker was lost").all()
    complete = trials[trials["state"] == "COMPLETE"]
    assert len(complete) == 12
    assert complete["architecture"].is_unique


def test_a_node_that_is_taken_away_costs_no_trial_and_one_that_comes_is_used(unshared, tmp_path):
    cluster = unshared
    (tmp_path / "notes").mkdir()
    gate = tmp_path / "notes" / "gate"
    os.mkfifo(gate)
    node = cluster.add_node(num_cpus=2, resources={"shaky": 2})
    cluster.wait_for_nodes()
    waiting = []

    def watch(event):
        # Both evaluations wait on the node: it goes.
        if type(event).__name__ == "TrialProgressed":
            waiting.append(event.number)
            if len(waiting) == 2:
                cluster.remove_node(node, allow_graceful=False)
                cluster.add_node(num_cpus=2, resources={"shaky": 2})

    evaluator = Worker(str(tmp_path / "notes"), dict.fromkeys((16, 24, 32), "wait once"))
    with closing(RayCluster(RayRunner(address=cluster.address, wait_s=30.0))) as connection:

        def make(evaluator):
            resources = TaskResources(cpu=1, custom={"shaky": 1.0})
            return RayExecutor(evaluator, cluster=connection, resources=resources, workers=2)

        with open_later(gate):
            ended = run(tmp_path, make_spec(trials=6), evaluator, make_executor=make, watch=watch)
    assert ended.why == "complete"
    trials = load_trials(url_of(tmp_path))
    assert (trials["state"] == "COMPLETE").sum() == 7
    assert (trials["state"] == "FAIL").sum() == 2
    assert set(trials["state"]) == {"COMPLETE", "FAIL"}


@contextmanager
def open_later(gate):
    """Whoever waits at the gate after the node has gone is let through: the gate stays open."""
    import threading

    stop = threading.Event()

    def keep_open():
        # Two wait and die with their node; a writer that comes before a reader waits for it, so it is opened
        # without waiting, again and again until the study ends.
        passed = 0
        while not stop.wait(0.05):
            if len(list(gate.parent.glob("*-*-*"))) <= 2:
                continue
            try:
                os.close(os.open(gate, os.O_WRONLY | os.O_NONBLOCK))
                passed += 1
            except OSError:  # nobody waits
                continue

    thread = threading.Thread(target=keep_open, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def test_an_error_and_a_time_limit_are_single_failed_trials(cluster, tmp_path):
    (tmp_path / "notes").mkdir()
    os.mkfifo(tmp_path / "notes" / "gate")
    run_there(cluster, tmp_path, does={16: "raise", 24: "wait"}, trials=11, time_limit_s=3.0)
    trials = load_trials(url_of(tmp_path))
    reasons = trials[trials["state"] == "FAIL"]["reason"]
    assert reasons.str.startswith("ValueError: the network is no good (logs/trial-").sum() == 4
    assert reasons.str.contains("longer than the runner's 3 s").sum() == 4
    assert (trials["state"] == "COMPLETE").sum() == 4


@pytest.mark.parametrize("away_s", [4.0, 600.0])  # in its own work, and where the database was locked
def test_what_lies_ready_is_heard_by_a_driver_that_was_away_for_longer_than_the_limit(cluster, tmp_path, away_s):
    import ray

    clock = Clock()
    executor = RayExecutor(
        Worker(str(tmp_path)), cluster=connect(cluster), resources=TaskResources(cpu=1), time_limit_s=3.0, clock=clock
    )

    def until_ready():
        ray.wait([running.stream for running in executor._running.values()], fetch_local=False)

    said = follow_away(executor, make_job(), clock, until_ready, away_s=away_s)
    assert [type(one).__name__ for one in said] == ["JobProgressed"] * 3 + ["JobReturned"]


def test_results_that_came_before_the_head_was_lost_are_heard_before_the_run_ends(unshared, tmp_path):
    import ray

    class Lost(RayCluster):
        def check_is_alive(self, wanted):
            raise StudyError("The Ray cluster is gone")

    clock, connection = Clock(), Lost(RayRunner(address=unshared.address, wait_s=0.0))
    try:
        executor = RayExecutor(Worker(str(tmp_path)), cluster=connection, resources=TaskResources(cpu=1), clock=clock)

        def until_ready():
            ray.wait([running.stream for running in executor._running.values()], fetch_local=False)

        said = follow_away(executor, make_job(), clock, until_ready, away_s=600.0)
        assert type(said[-1]).__name__ == "JobReturned"
        executor.submit(make_job(1))
        until_ready()
        clock.now += 2.0  # and while there is always something to hear
        with pytest.raises(StudyError, match="is gone"):
            executor.next_event()
    finally:
        connection.close()


def test_what_no_candidate_can_help_ends_the_study(cluster, tmp_path):
    with pytest.raises(StudyError, match="The disk is full"):
        run_there(cluster, tmp_path, does=dict.fromkeys((16, 24, 32), "stop"))
    assert "RUNNING" not in set(load_trials(url_of(tmp_path))["state"])
    assert run_there(cluster, tmp_path).why == "complete"


def test_latency_is_measured_on_the_node_that_is_the_device_and_nowhere_else(cluster, tmp_path):
    (tmp_path / "notes").mkdir()
    after = Afterwards(evaluator=Timer(str(tmp_path / "notes")), resources=TaskResources(cpu=1, custom={"phone": 1.0}))
    run_there(cluster, tmp_path, Untimed(), afterwards=after, trials=6)
    trials = load_trials(url_of(tmp_path))
    assert (trials["latency_ms"] == 1.0).all()
    assert (trials["latency_ms_device"] == "the device").all()
    nodes = {path.read_text() for path in (tmp_path / "notes").glob("timed-*")}
    (phone,) = (node.id for node in connect(cluster).nodes() if "phone" in node.resources)
    assert nodes == {phone}


def test_capacity_is_what_fits_on_each_node():
    nodes = [Node(id="a", name="a", resources={"CPU": 3, "GPU": 1}), Node(id="b", name="b", resources={"CPU": 8})]
    assert [node.fits({"CPU": 2.0}) for node in nodes] == [1, 4]
    assert [node.fits({"CPU": 0.1}) for node in nodes] == [30, 80]
    assert [node.fits({"CPU": 1.0, "GPU": 0.25}) for node in nodes] == [3, 0]


def test_a_cluster_counts_what_fits(cluster):
    connection = connect(cluster)
    two = sum(node.fits({"CPU": 1.0}) for node in connection.nodes())
    assert connection.capacity(TaskResources(cpu=1)) == two >= 4
    assert connection.capacity(TaskResources(cpu=1, custom={"phone": 1.0})) == 1


def test_more_than_any_node_has_is_refused_instead_of_waited_for(cluster):
    with pytest.raises(StudyError, match=r"what one evaluation takes \(1 CPU, 3 GPU"):
        connect(cluster).wait_for(TaskResources(cpu=1, gpu=3))


@pytest.mark.parametrize(
    ("device", "cpu", "words"),
    [
        ("phone", 1, None),
        ("phon", 1, r"carries the runner's device 'phon'.* Did you mean 'phone'\?.*ray start .*'\{\"phon\": 1\}'"),
        ("phone", 64, r"has the rest of what a measurement takes \(64 CPU, 1 phone\)"),
    ],
)
def test_a_device_that_no_node_carries_is_told_with_the_nearest_one(cluster, device, cpu, words):
    wanted = TaskResources(cpu=cpu, custom={device: 1.0})
    if words is None:
        connect(cluster).wait_for_device(device, wanted)
        return
    with pytest.raises(StudyError, match=words):
        connect(cluster).wait_for_device(device, wanted)


def test_no_cluster_at_the_address_is_told_at_once():
    with pytest.raises(StudyError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        RayCluster(RayRunner(address="127.0.0.1:1"))


def test_a_ray_client_address_in_the_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.1:10001")
    with pytest.raises(StudyError, match="Ray Client cannot stream"):
        RayCluster(RayRunner())


DEVICE = "A processor, 1 thread"
GOOD = {"device": DEVICE, "versions": versions(), "data": None, "folder": True, "folder_name": "/shared/studies/small"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"versions": {**versions(), "torch": "1.0"}}, ["10.0.0.7", "torch 1.0 against", "ship_code"]),
        ({"data": "FileNotFoundError: /data/cifar10"}, ["10.0.0.7", "/data/cifar10", "same on every node"]),
        ({"folder": False}, ["10.0.0.7", "/shared/studies/small", "--out"]),
        ({"device": "Another, 1 thread"}, ["10.0.0.7", "another machine: Another, 1 thread", f"those of {DEVICE}"]),
    ],
)
def test_a_node_that_cannot_evaluate_is_told_of_by_name(answer, words):
    with pytest.raises(StudyError) as caught:
        refuse_stranger("10.0.0.7", GOOD | answer, versions(), device=DEVICE)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"host": "another machine"}, "has joined the cluster"),
        ({"device": "Another processor, 1 thread"}, "carries the runner's device, but is another machine"),
        ({"device": device_fingerprint().text}, None),
    ],
)
def test_a_worker_looks_around_itself_since_its_node_may_have_joined_late(cluster, tmp_path, change, words):
    demands = Demands(**{"versions": versions(), "folder": str(tmp_path), "host": host_identity()} | change)
    if words is None:
        assert run_there(cluster, tmp_path, FakeEvaluator(), demands=demands).why == "complete"
        return
    with pytest.raises(StudyError, match=words):
        run_there(cluster, tmp_path, FakeEvaluator(), demands=demands)


@dataclass(frozen=True)
class Timed:
    """Of a proxy evaluator what a workplace asks for."""

    reference: Reference | None
    timed: tuple[str, ...] = ("latency_ms",)
    int8: bool = False

    def only_timing(self):
        return Timer("")


@pytest.mark.parametrize("is_another", [True, False])
def test_a_machine_that_is_not_the_one_of_the_studys_scale_is_refused_before_anything_is_trained(
    unshared, tmp_path, is_another
):
    device = device_fingerprint(processor="Another processor") if is_another else device_fingerprint()
    evaluator = Timed(reference=Reference(ms=10.0, spread=0.1, runs=10, device=device))
    runner = RayRunner(address=unshared.address, wait_s=0.0, device="phone")
    with closing(open_workplace(runner, make_spec(), tmp_path)) as workplace:
        if not is_another:
            workplace.make_executor(evaluator)
            return
        with pytest.raises(StudyError, match=r"but is another machine: .* those of Another processor"):
            workplace.make_executor(evaluator)


def test_every_node_is_asked_before_anything_runs(cluster, tmp_path):
    import ray

    class Blind:
        def check(self):
            Path("/no/such/data").read_bytes()

    connection = connect(cluster)
    hosts = connection.look_over(TaskResources(cpu=1), evaluator=ray.put(FakeEvaluator()), folder=tmp_path)
    assert len(hosts) >= 2
    assert len(set(hosts)) == 1
    with pytest.raises(StudyError, match="cannot read the data: FileNotFoundError"):
        connection.look_over(TaskResources(cpu=1), evaluator=ray.put(Blind()), folder=tmp_path)
    with pytest.raises(StudyError, match="does not see the study's folder"):
        connection.look_over(TaskResources(cpu=1), evaluator=ray.put(FakeEvaluator()), folder=Path("/no/such"))
