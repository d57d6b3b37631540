import re
from pathlib import Path

import pytest

from tests.command_line import python

COMMANDS = [
    *("run", "status", "front", "report", "dashboard", "export", "tune", "plan", "train", "validate", "schema", "data"),
    *("data check", "space", "space show", "space sample", "space check", "latency", "latency measure", "latency fit"),
    *(
        "latency kit",
        "latency predict",
        "latency check",
        "latency import",
        "latency backends",
        "bench",
        "bench make",
        "bench run",
        "bench export",
        "reproduce",
        "signals",
        "ship",
        "peers",
        "doctor",
        "data pack",
    ),
]


@pytest.fixture
def starsearch(starsearch, tmp_path, monkeypatch):
    """Runs a command in an empty folder: exit code, stdout, stderr."""
    monkeypatch.chdir(tmp_path)
    return starsearch


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(starsearch, command):
    code, out, _ = starsearch(*command.split(), "--help")
    assert code == 0
    assert "Usage:" in out


def test_help_imports_nothing_heavy():
    heavy = ("torch", "timm", "optuna", "ray", "pandas", "numpy", "pydantic", "onnx", "matplotlib", "plotly", "sklearn")
    code = (
        "import sys\nfrom starsearch.cli import main\nsys.argv = ['starsearch', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print('LOADED', [name for name in {heavy!r} if name in sys.modules])"
    )
    assert "LOADED []" in python("-c", code).stdout


def test_the_readme_shows_every_command():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for command in COMMANDS:
        assert re.search(rf"starsearch {command}\b", readme), command


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("run nowhere.yaml", ["nowhere.yaml", "Shipped spaces"]),
        ("run starnet --data nowhere/", ["nowhere"]),
        ("run starnet --time-budget soon", ["30m", "soon"]),
        ("run starnet --name a/b", ["a/b"]),
        ("run starnet --runner nowhere", ["nowhere", "local"]),
        ("run starnet --trials 0", ["--trials"]),
        ("run starnet --classes outermost", ["--classes", "give --data too"]),
        ("front nowhere", ["nowhere", "study folder"]),
        ("status study@nosuch://x", ["nosuch"]),
        ("export nowhere --out x", ["nowhere"]),
        ("space show starnett", ["Did you mean 'starnet'"]),
        ("space check .", ["folder"]),
        ("latency measure starnet_s9", ["starnet_s9"]),
        ("train starnet_s9 --data digits", ["starnet_s9", "Known by name"]),
        ("train starnet_s1 --data digits --recipe starnet-imagnet", ["Did you mean 'starnet-imagenet'"]),
        ("train starnet_s1 --data digits --precision float8", ["float8", "bfloat16"]),
        ("tune starnet_s1 --samples 9", ["samples must be", "got 9", "10 classes"]),
        ("plan starnet --data x --validation-fraction 2", ["--validation-fraction"]),
        ("bench run --table nowhere", ["no StarBench table in nowhere"]),
        ("bench run --samplers ,", ["Unknown sampler ''", "auto"]),
        ("fly", ["fly"]),
    ],
)
def test_a_users_mistake_is_one_message_and_exit_code_2(starsearch, command, words):
    code, _, err = starsearch(*command.split())
    assert code == 2
    assert "Traceback" not in err
    for word in words:
        assert word in err


def test_space_commands_print_what_scripts_and_people_need(starsearch):
    shown = starsearch("space", "show", "starnet")[1]
    assert "9,123,840" in shown
    assert "each stage: star, sum" in shown
    sampled = starsearch("space", "sample", "starnet", "-n", "3")[1].splitlines()
    assert len(sampled) == 3
    assert all("starnet:embed_dim=" in line for line in sampled)
    assert "valid" in starsearch("space", "check", "starnet-wide")[1]
