import os
import signal
import threading
import time

import pytest
from rich.console import Console
from typer.testing import CliRunner

from starsearch.cli.app import app
from starsearch.cli.training import TrainingView
from starsearch.errors import EvaluationError, SpecError, StarsearchError, StudyError
from starsearch.measurement import Progress

ARCHITECTURE = "starnet:embed_dim=8,depths=1-1-1,mlp_ratio=2,kernel_size=3"


@pytest.fixture(autouse=True)
def _signals():
    """The command takes Ctrl-C and SIGTERM for itself."""
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
    """What the command prints; its errors are raised."""
    command = ["train", ARCHITECTURE, "--data", "digits", "--resolution", "8", "--stem-stride", "1"]
    done = CliRunner().invoke(
        app, [*command, "--recipe", str(recipe), "--out", str(folder), *options], catch_exceptions=True
    )
    if isinstance(done.exception, StarsearchError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_a_training_leaves_a_folder_and_says_how_to_load_the_network(tmp_path, short):
    said = train(tmp_path / "out", short)
    assert "epoch 1 of 2: top-1 " in said
    assert "Done: 2 epochs" in said
    assert {path.name for path in (tmp_path / "out").iterdir()} >= {
        "recipe.yaml", "log.csv", "last.pt", "best.safetensors", "timm", "summary.json",
    }  # fmt: skip
    line = next(line for line in said.splitlines() if line.startswith("Load it: ")).removeprefix("Load it: ")
    found = {}
    exec(line, found)
    assert found["model"].num_classes == 10
    from starsearch.study.recipe_file import load_recipe

    assert load_recipe(str(tmp_path / "out" / "recipe.yaml")) == load_recipe(str(short))
    again = train(tmp_path / "out", tmp_path / "out" / "recipe.yaml")
    assert again.count("epoch ") == 2, "the last epoch's line and the best's; nothing is trained again"


def test_the_command_lines_changes_are_in_the_recipe_that_is_kept(tmp_path, short):
    from starsearch.study.recipe_file import load_recipe

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

    thread = threading.Thread(target=interrupt)
    thread.start()
    said = train(tmp_path / "out", recipe)
    thread.join()
    assert "Nothing is lost; the same command goes on." in said
    assert "Stopped in epoch" in said
    assert (tmp_path / "out" / "last.pt").exists()


def test_what_cannot_be_is_said_in_words(tmp_path, short):
    with pytest.raises(EvaluationError, match="3 micro-batches, which do not divide it; take 63"):
        train(tmp_path / "a", short, "--accumulate", "3")
    with pytest.raises(StarsearchError, match="batch_size 4096 images but there are only 1,257"):
        train(tmp_path / "b", short, "--batch-size", "4096")
    (tmp_path / "w.pth").write_text("no weights")
    with pytest.raises(EvaluationError, match=r"w\.pth cannot be read"):
        train(tmp_path / "c", short, "--weights", str(tmp_path / "w.pth"))
    with pytest.raises(StarsearchError, match="runner of this machine alone"):
        train(tmp_path / "d", short, "--runner", "local")
    bad = tmp_path / "bad.yaml"
    bad.write_text("{epochs: 2, weight_deacy: 0.1}")
    with pytest.raises(StarsearchError, match="Did you mean 'weight_decay'"):
        train(tmp_path / "e", bad)
    bad.write_text("epochs: 2\nauto_augment: trivialaugment\n")
    with pytest.raises(SpecError, match=r"bad\.yaml, line 2, auto_augment: timm has no augmentation policy"):
        train(tmp_path / "f", bad)
    bad.write_text("{epochs: 2, mixup: 0.8}")
    with pytest.raises(SpecError, match=r"--batch-size: mixup and cutmix mix images in pairs.*got 15"):
        train(tmp_path / "g", bad, "--batch-size", "15")


def test_two_trainings_do_not_share_a_folder(tmp_path, short):
    from filelock import FileLock

    (tmp_path / "out").mkdir()
    with FileLock(tmp_path / "out" / ".lock"), pytest.raises(StudyError, match="Another training is at work"):
        train(tmp_path / "out", short)


def test_without_a_terminal_an_epoch_is_a_line_and_nothing_else(capsys):
    with TrainingView("starnet_s1 in here", epochs=2, console=Console(highlight=False)) as view:
        view(Progress(fraction=0.1, stage="training", values={"in_epoch": 1.0, "images_per_second": 1234.0}))
        values = {"top1_percent": 50.0, "top5_percent": 75.0, "train_loss": 1.5, "learning_rate": 1e-3}
        view(Progress(fraction=0.5, stage="validation", epoch=1, values=values | {"images_per_second": 1234.0}))
    assert capsys.readouterr().out.splitlines() == [
        "starnet_s1 in here",
        "epoch 1 of 2: top-1 50.00 %, top-5 75.00 %, loss 1.5000, lr 0.001, 1,234 images/s",
    ]
