import json
import math
import os
import re
import shlex
import signal
import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from rich.console import Console
from typer.testing import CliRunner

from starsearch.api.networks import resolve
from starsearch.api.training_job import plan_training
from starsearch.api.tuning import TuneOutcome, tune_recipe
from starsearch.candidate import Candidate
from starsearch.cli.app import app
from starsearch.cli.training import training_view
from starsearch.errors import StarsearchError, StudyError
from starsearch.measurement import Measurement
from starsearch.progress import Progress
from starsearch.recipe import Fidelity, with_batch_size
from starsearch.records.record import StudyRecord
from starsearch.records.table import load_study as load_tuned
from starsearch.search.planned import anchor_trials
from starsearch.signals import exit_code, interrupt_on_signals
from starsearch.study.recipe_file import load_recipe
from starsearch.study.study_file import load_study
from starsearch.trial import Trial

ARCHITECTURE = "starnet:embed_dim=8,depths=1-1-1,mlp_ratio=2,kernel_size=3"


@pytest.fixture(autouse=True)
def _signals():
    """What the process does on Ctrl-C and SIGTERM is put back."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def short(tmp_path):
    recipe = tmp_path / "short.yaml"
    recipe.write_text("{epochs: 2, batch_size: 64, lr: 2.0e-3, hflip: 0}")
    return recipe


def train(folder, recipe, *options):
    command = ["train", ARCHITECTURE, "--data", "digits", "--resolution", "8", "--stem-stride", "1"]
    return run(*command, "--recipe", str(recipe), "--out", str(folder), *options)


def run(*arguments):
    """What the command prints; its errors are raised."""
    done = CliRunner().invoke(app, arguments, catch_exceptions=True)
    if isinstance(done.exception, StarsearchError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_training_leaves_a_folder_and_says_how_to_load_the_network(tmp_path, short):
    said = train(tmp_path / "out", short)
    assert "epoch 1 of 2: top-1 " in said
    assert "Done: 2 epochs" in said
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    share, images = summary["best_top1_percent"] / 100, summary["validation_images"]
    assert summary["best_top1_spread"] == pytest.approx(100 * math.sqrt(share * (1 - share) / images), rel=0.05)
    assert f"top-1 {100 * share:.2f} ± {summary['best_top1_spread']:.2f} %" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "recipe.yaml", "log.csv", "last.pt", "best.safetensors", "timm", "summary.json",
    }  # fmt: skip
    line = next(line for line in said.splitlines() if line.startswith("Load it: ")).removeprefix("Load it: ")
    found = {}
    exec(line, found)
    assert found["model"].num_classes == 10
    line = next(line for line in said.splitlines() if line.startswith("Export it: starsearch ")).partition("   ")[0]
    command = line.removeprefix("Export it: starsearch ").replace("onnx,onnx-int8 --out best", "onnx --no-pad --out")
    done = CliRunner().invoke(app, [*shlex.split(command), str(tmp_path / "best")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "best" / "model.onnx").is_file()

    assert load_recipe(str(tmp_path / "out" / "recipe.yaml")) == load_recipe(str(short))
    again = train(tmp_path / "out", tmp_path / "out" / "recipe.yaml")
    assert again.count("epoch ") == 2, "the last epoch's line and the best's; nothing is trained again"


def test_the_command_lines_changes_are_in_the_recipe_that_is_kept(tmp_path, short):
    train(tmp_path / "out", short, "--epochs", "1", "--batch-size", "32", "--accumulate", "2")
    kept = load_recipe(str(tmp_path / "out" / "recipe.yaml"))
    assert (kept.epochs, kept.batch_size, kept.lr) == (1, 32, 1e-3)
    with pytest.raises(StudyError, match=r"recipe\.epochs 1 there, 2 here; recipe\.batch_size 32 there, 64 here"):
        train(tmp_path / "out", short)
    assert load_recipe(str(tmp_path / "out" / "recipe.yaml")) == kept


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_training_with_its_state_kept(tmp_path, number):
    recipe = tmp_path / "long.yaml"
    recipe.write_text("{epochs: 500, batch_size: 64, hflip: 0}")
    log = tmp_path / "out" / "log.csv"

    def interrupt():
        while not log.exists():
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    interrupt_on_signals()
    thread = threading.Thread(target=interrupt)
    thread.start()
    said = train(tmp_path / "out", recipe)
    thread.join()
    assert "Nothing is lost; the same command resumes it." in said
    assert "Stopped in epoch" in said
    assert exit_code() == 128 + number
    assert (tmp_path / "out" / "last.pt").exists()


@pytest.mark.parametrize(
    ("recipe", "options", "words"),
    [
        ("{batch_size: 64}", ["--accumulate", "3"], "3 micro-batches, which do not divide it; take 63"),
        ("{}", ["--runner", "local"], "runner of this machine alone"),
        (
            "epochs: 2\nauto_augment: trivialaugment\n",
            [],
            r"a\.yaml, line 2, auto_augment: timm has no augm",
        ),
        ("{mixup: 0.8}", ["--batch-size", "15"], r"--batch-size: mixup and cutmix mix images in pairs.*got 15"),
    ],
)
def test_what_cannot_be_is_said_in_words(tmp_path, recipe, options, words):
    (tmp_path / "a.yaml").write_text(recipe)
    with pytest.raises(StarsearchError, match=words):
        train(tmp_path / "out", tmp_path / "a.yaml", *options)


def test_a_training_begins_with_the_weights_of_another_network(tmp_path, short):
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    options = ("--epochs", "1", "--weights")
    train(tmp_path / "first", short, "--epochs", "1")
    weights = tmp_path / "first" / "best.safetensors"
    with safe_open(weights, framework="pt") as file:
        about = file.metadata()
    letters = tmp_path / "letters.safetensors"
    save_file(load_file(weights), letters, metadata={**about, "class_names": json.dumps(list("abcdefghij"))})
    state = load_file(weights)
    for same in (tmp_path / "first", tmp_path / "first/last.pt", tmp_path / "first/timm"):
        found = resolve(str(same)).weights().state
        assert {name: tensor.tolist() for name, tensor in found.items()} == {
            name: tensor.tolist() for name, tensor in state.items()
        }
    begins = lambda said: dict(re.findall(r"^ (\S+).* (kept|new|sliced) *$", said, flags=re.MULTILINE))  # noqa: E731
    said = begins(train(tmp_path / "second", short, *options, str(letters)))
    assert list(said) == ["stem.0", "stages.0.0–1", "stages.1.0–1", "stages.2.0–1", "norm", "head"]
    assert [layer for layer, how in said.items() if how != "kept"] == ["head"]
    narrow = ["train", ARCHITECTURE.replace("embed_dim=8", "embed_dim=4"), "--data", "digits", "--resolution", "8"]
    narrow += ["--stem-stride", "1", "--recipe", str(short), "--out", str(tmp_path / "narrow")]
    assert begins(run(*narrow, *options, str(weights)))["stages.0.0–1"] == "sliced"
    with pytest.raises(StudyError, match=r"the weights of best\.safetensors .* the weights of lett"):
        run(*narrow, *options, str(letters))
    with pytest.raises(StarsearchError, match=r"There is no weight file .*gone\.pth"):
        run(*narrow, *options, str(tmp_path / "gone.pth"))


@pytest.fixture
def trial(tmp_path):
    """STUDY:TRIAL of a study with a searched recipe, and the recipe it was trained by."""
    file = tmp_path / "searched.yaml"
    file.write_text(
        "space: starnet\nanchors: []\nobjectives: {top1_percent: maximize}\n"
        "recipe: {lr: {low: 1.0e-3, high: 1.0e-2, log: true}, drop_path: [0.0, 0.1], ema_decay: [null, 0.9998]}\n"
        "fidelities: [{resolution: 8, stem_stride: 1, crop_pct: 0.9, epochs: 2, recipe: digits}]\n"
    )
    spec = load_study(str(file))
    recipe = replace(spec.recipe, lr=0.00947, drop_path=0.1, ema_decay=0.9998)
    candidate = Candidate(architecture=resolve(ARCHITECTURE).architecture, recipe=recipe)
    with closing(StudyRecord.open(f"sqlite:///{tmp_path}/study.db", spec)) as record:
        for one in (replace(candidate, recipe=spec.recipe), candidate):
            names = ("lr", "drop_path", "ema_decay")
            params = {f"recipe.{name}": getattr(one.recipe, name) for name in names}
            started = record.start(Trial(candidate=one, params=params))
            measured = (Measurement(name="top1_percent", value=50.0),)
            record.finish(replace(started, state="complete", readings=measured, seconds=1.0))
    return f"{tmp_path}:1", replace(recipe, epochs=2)


def test_a_trial_brings_its_recipe_and_its_fidelity_and_what_is_overridden_is_said(tmp_path, trial):
    text, searched = trial
    said = run("train", text, "--data", "digits", "--out", str(tmp_path / "out"), "--epochs", "1")
    assert (
        f"From {text}: its recipe (searched: lr 0.00947, drop_path 0.1, ema_decay 0.9998), 8 px, stem stride 1, "
        "validation crop 0.9."
    ) in said
    assert "--epochs 1 overrides the trial's recipe: epochs 2 → 1." in said
    assert "initialization identity → official" in said
    kept = load_recipe(str(tmp_path / "out" / "recipe.yaml"))
    assert kept == replace(searched, epochs=1, initialization="official"), "a full training starts as published"
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["resolution"], summary["stem_stride"], summary["crop_pct"]) == (8, 1, 0.9)
    base = plan_training(text.replace(":1", ":0"), data="digits").recipe
    assert (base.lr, base.drop_path, base.ema_decay) == (2e-3, 0.0, None)


def test_a_recipe_file_and_options_go_before_a_trials(short, trial):
    text, _ = trial
    job = plan_training(text, data="digits", recipe=str(short), batch_size=128, resolution=16, stem_stride=1)
    assert (job.recipe, job.fidelity.resolution) == (with_batch_size(load_recipe(str(short)), 128), 16)
    assert job.notes[1] == "--resolution overrides the trial's: 8 → 16."
    assert re.match(
        r"--recipe .*short.yaml overrides the trial's recipe: lr 0.00947 → 0.002, .*ema_decay", job.notes[2]
    )
    assert job.notes[3].startswith(
        "--batch-size 128 overrides the trial's recipe: batch_size 64 → 128, lr 0.002 → 0.004"
    )
    shipped = plan_training(ARCHITECTURE, data="digits", recipe="digits")
    assert (shipped.recipe.initialization, len(shipped.notes)) == ("official", 1)
    assert job.notes[4] == "It trains as long as the trial, 2 epochs; --epochs N trains longer."


def test_a_recipe_search_begins_with_the_trials_recipe_and_fidelity(tmp_path, trial, monkeypatch):
    text, _ = trial
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "space.yaml").write_text("recipe: {smoothing: [0.0, 0.1]}")
    space, said = str(tmp_path / "space.yaml"), []
    with pytest.raises(StudyError, match="no Ray cluster"):
        tune_recipe(text, space=space, name="tuned", out=tmp_path, fidelity={"epochs": 4}, say=said.append)
    tuned = load_tuned(f"sqlite:///{tmp_path}/tuned/study.db", "tuned").spec
    assert (tuned.fidelity.resolution, tuned.fidelity.stem_stride, tuned.fidelity.crop_pct) == (8, 1, 0.9)
    assert tuned.recipe.ema_decay == 0.9998
    assert said[1] == "--epochs 4 overrides the trial's recipe: epochs 2 → 4."


def test_a_recipe_search_ends_with_the_command_that_trains_as_it_did(tmp_path, short, trial, monkeypatch):
    (anchor, *_) = anchor_trials(load_study("starnet"))
    best = replace(anchor, number=1, readings=(Measurement(name="top1_percent", value=50.0),))
    outcome = TuneOutcome(
        folder=tmp_path, finished=16, fidelity=Fidelity(resolution=8, stem_stride=1, crop_pct=0.9, epochs=2),
        best=best, base=None, changes="lr 0.00947", recipe_file=short, files=(),
    )  # fmt: skip
    monkeypatch.setattr("starsearch.api.tuning.tune_recipe", lambda *_args, **_options: outcome)
    said = run("tune", ARCHITECTURE)
    assert "That is 2 epochs, as each trial was trained; --epochs N trains longer." in said
    command = next(line for line in said.splitlines() if line.startswith("Next:")).split()[2:]
    run(*command, "--out", str(tmp_path / "out"))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert [summary[name] for name in ("resolution", "stem_stride", "crop_pct", "epochs")] == [8, 1, 0.9, 2]


def test_two_trainings_do_not_share_a_folder(tmp_path, short):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(StudyError, match="Another training is at work"):
        train(tmp_path / "out", short)


def test_without_a_terminal_an_epoch_is_a_line_and_nothing_else(capsys):
    job = plan_training(ARCHITECTURE, data="digits", recipe="digits", epochs=2)
    with training_view("starnet_s1 in here", job=job, console=Console(highlight=False)) as view:
        view(Progress(fraction=0.1, stage="training", values={"in_epoch": 1.0, "images_per_second": 1234.0}))
        values = {"top1_percent": 50.0, "top5_percent": 75.0, "train_loss": 1.5, "learning_rate": 1e-3}
        view(Progress(fraction=0.5, stage="validation", epoch=1, values=values | {"images_per_second": 1234.0}))
    assert capsys.readouterr().out.splitlines() == [
        "starnet_s1 in here",
        "epoch 1 of 2: top-1 50.00 %, top-5 75.00 %, loss 1.5000, lr 0.001, 1,234 images/s",
    ]
