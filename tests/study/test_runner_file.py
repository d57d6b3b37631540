import os
import subprocess
from pathlib import Path

import pytest
import yaml

from starsearch.errors import SpecError
from starsearch.resources import shipped_names
from starsearch.study.runner_file import LocalRunner, RayRunner, TaskResources, load_runner

CLUSTERS = Path(__file__).parents[2] / "runners" / "clusters"


def load(tmp_path, text):
    (tmp_path / "r.yaml").write_text(text)
    return load_runner(str(tmp_path / "r.yaml"))


def test_the_shipped_ones_load_by_name():
    assert shipped_names("runners") == ("imagenet-8gpu", "imagenet-cluster", "local", "ray")
    assert load_runner("local") == LocalRunner()
    assert load_runner("ray") == RayRunner(resources=TaskResources(cpu=1))


def test_without_a_file_it_is_this_process_or_where_ray_is(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert load_runner(None) == LocalRunner()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert load_runner(None) == RayRunner()


def test_a_whole_file(tmp_path):
    runner = load(
        tmp_path,
        """
        executor: ray
        address: 10.0.0.1:6379
        resources: {cpu: 4, gpu: 0.5, memory_gb: 16, custom: {fast: 1}}
        fidelities: {full: {cpu: 64, gpu: 8}}
        workers: 64
        device: laptop
        time_limit_s: 3600
        tries: 5
        ship_code: true
        runtime_env: {env_vars: {A: "1"}}
        wait_s: 600
        """,
    )
    assert runner.resources_of("proxy") == TaskResources(cpu=4, gpu=0.5, memory_gb=16, custom={"fast": 1})
    assert runner.resources_of("full") == TaskResources(cpu=64, gpu=8)
    assert runner.runtime_env == {"env_vars": {"A": "1"}}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("executor: rai", ["line 1", "unknown executor 'rai'", "Did you mean 'ray'?"]),
        ("executor: ray\nresource: {cpu: 1}", ["line 2", "unknown key 'resource'", "Did you mean 'resources'?"]),
        ("executor: ray\nresources:\n  cpus: 1", ["line 3", "unknown key 'cpus'", "Did you mean 'cpu'?"]),
        ("executor: ray\nfidelities:\n  full:\n    gpus: 1", ["line 4", "unknown key 'gpus'"]),
        ("executor: ray\nresources: {cpu: 0}", ["line 2", "resources.cpu", "greater than 0"]),
        ("executor: ray\naddress: ray://10.0.0.1:10001", ["line 2", "Ray Client", "ray job submit"]),
        ("executor: local\nworkers: none", ["line 2", "workers", "'none'"]),
        ("executor: local\naddress: auto", ["line 2", "unknown key 'address'"]),
        ("- ray", ["a runner is a mapping of keys", "['ray']"]),
        ("executor: [ray]", ["unknown executor"]),
        ("executor: ray\nresources: 4", ["resources"]),
        ("executor: ray\ntries: 0", ["tries"]),
        ("executor: ray\nresources: {gpu: 1.5}", ["resources.gpu", "whole GPUs; got 1.5"]),
        ("executor: ray\nresources: {custom: {GPU: 1}}", ["resources.custom.GPU", "say it as gpu"]),
        ("executor: ray\nfidelities: {full: {custom: {memory: 1}}}", ["fidelities.full.custom.memory", "memory_gb"]),
        ("executor: ray\ndevice: CPU", ["device", "Ray's own"]),
        ("executor: ray\nruntime_env: {env_vars: {A: 8}}", ["runtime_env.env_vars.A", "in quotes; got 8"]),
    ],
)
def test_a_mistake_is_told_with_file_line_and_rule(tmp_path, text, words):
    with pytest.raises(SpecError) as caught:
        load(tmp_path, text)
    for word in ["r.yaml", *words]:
        assert word in str(caught.value)


@pytest.mark.filterwarnings("ignore")
def test_the_file_for_ray_up_is_one_by_rays_own_schema():
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load((CLUSTERS / "aws.yaml").read_text())))


def test_the_kuberay_manifest_has_the_parts_its_operator_reads():
    """Not checked against the operator's own schema, which needs a Kubernetes cluster."""
    job = yaml.safe_load((CLUSTERS / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job["spec"]["entrypoint"].startswith("starsearch run ")
    cluster = job["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}
        assert container["image"] == "IMAGE"


def test_the_slurm_script_starts_a_head_its_nodes_and_the_driver(tmp_path):
    """A dry run: the programs of Slurm, Ray and starsearch write down how they were called."""
    for name in ("srun", "scontrol", "starsearch"):
        (tmp_path / name).write_text(
            f'#!/bin/bash\necho "$(basename $0) RAY_ADDRESS=$RAY_ADDRESS $*" >> {tmp_path}/calls\n'
        )
    (tmp_path / "scontrol").write_text("#!/bin/bash\nprintf 'n1\\nn2\\nn3\\n'\n")
    with (tmp_path / "srun").open("a") as file:
        file.write('[[ "$*" == *hostname* ]] && echo "10.0.0.5 10.0.1.5"\nexit 0\n')
    with (tmp_path / "starsearch").open("a") as file:  # ends once the nodes, in the background, have started
        file.write(f'for _ in {{1..1000}}; do [ "$(grep -c "ray start" {tmp_path}/calls)" = 3 ] && break; done\n')
    for name in ("srun", "scontrol", "starsearch"):
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DATA": "/data/some images"}
    environment |= {"SLURM_JOB_NODELIST": "n[1-3]", "SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "8"}
    subprocess.run(["bash", CLUSTERS / "slurm.sh"], env=environment, check=True)
    calls = (tmp_path / "calls").read_text()
    assert "--nodelist=n1 ray start --head --node-ip-address=10.0.0.5 --port=20007 --num-cpus=8 --num-gpus=0" in calls
    for node in ("n2", "n3"):
        assert f"--nodelist={node} ray start --address=10.0.0.5:20007 --num-cpus=8" in calls
    assert "starsearch RAY_ADDRESS=10.0.0.5:20007 run starnet --data /data/some images --out studies" in calls
    assert calls.count("ray start --head") == 1
