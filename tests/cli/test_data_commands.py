"""`starsearch validate` and `starsearch data check` as a user calls them."""

import itertools
import json

import optuna
import pytest
import torch
from PIL import Image

from tests.api.conftest import UNTIMED, write_tiny_files
from tests.data.imagenet_like import SYNSETS, write_folders
from tests.data.pictures import LFS_POINTER, write_pictures


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with the data set imagenet/, of which one image is broken, and weights of StarNet-S050."""
    import timm

    root = tmp_path_factory.mktemp("place")
    data = write_folders(root / "imagenet", train=(3, 3, 3), validation=(3, 3, 3))
    (data / "val" / SYNSETS[0] / "ILSVRC2012_val_00000002.JPEG").write_bytes(b"broken")
    torch.manual_seed(0)
    torch.save({"state_dict": timm.create_model("starnet_s050").state_dict()}, root / "s050.pth.tar")
    return root


@pytest.fixture
def starsearch(starsearch, place, monkeypatch):
    """Runs a command in `place`, without a network: exit code, stdout, stderr."""
    monkeypatch.chdir(place)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    return starsearch


def test_validate_prints_a_table_and_names_unreadable_images_and_json(starsearch):
    command = ("validate", "starnet_s050", "--weights", "s050.pth.tar", "--workers", "0", "--data")
    code, out, _ = starsearch(*command, "imagenet")
    assert code == 0
    for words in ("top-1", "8 images of 3 classes", "224 px, 0.875 of the side, bicubic", "images/s"):
        assert words in out
    assert "top-5" not in out  # of three classes
    assert "3 of the network's 1,000 classes" in out
    assert f"  {SYNSETS[0]}/ILSVRC2012_val_00000002.JPEG (cannot identify image file)" in out
    code, out, _ = starsearch(*command, "imagenet/val", "--resolution", "64", "--json")
    found = json.loads(out)
    assert (code, found["num_images"], found["resolution"], len(found["unreadable"])) == (0, 8, 64, 1)
    assert found["top1_percent"] % 12.5 == pytest.approx(0.0)


def test_data_check_prints_what_was_found(starsearch):
    arguments = ("data", "check", "imagenet", "--workers", "1", "--images-per-second", "1e6", "--resolution", "16")
    code, out, _ = starsearch(*arguments)
    assert code == 0
    for words in ("9 images, 3 to 3 a class", "cannot be read: ", "Loading is the bottleneck", "workers would do"):
        assert words in out
    for synset in SYNSETS:
        assert f"class {synset}: {', '.join(f'{synset}/{synset}_{index}.JPEG' for index in range(3))}" in out
    assert "left out" not in out
    assert "9 of 9 tried, all can be read" in out
    assert "--samples" not in out
    found = json.loads(starsearch(*arguments, "--json")[1])
    assert found["train"]["images_a_class"] == [3, 3.0, 3]
    assert found["workers_needed"] > 100


def test_data_check_tells_of_broken_links_and_of_images_in_both_splits(starsearch, place):
    write_pictures(place / "pets" / "train", {"cat": 12, "dog": 12})
    write_pictures(place / "pets" / "val", {"cat": 2, "dog": 1})  # drawn alike: the cats are the first training cats
    (place / "pets" / "train" / "dog" / "link.png").symlink_to("../../cache/3f/9c")
    code, out, _ = starsearch("data", "check", "pets", "--workers", "1", "--resolution", "16")
    assert code == 0
    assert "cannot be read: dog/link.png (the file is missing, or a link that leads nowhere)" in out
    assert "1 of 25 training images that were tried (4.0%) cannot be read; a training leaves such images out." in out
    assert (
        "2 of the 3 validation images (66.7%) are also among the training images, byte for byte: cat/000.png =" in out
    )
    assert "photos turned as their EXIF says" in out


@pytest.mark.filterwarnings("default")
def test_a_run_warns_of_images_in_both_splits_and_records_how_photos_are_read(starsearch, place):
    write_tiny_files(place, UNTIMED)
    for split in ("train", "val"):
        write_pictures(place / "photos" / split, {"cat": 4, "dog": 4})
    options = ("--set", "recipe.batch_size=4", "--time-budget", "0.001s")
    _, _, err = starsearch("run", "few.yaml", "--data", "photos", *options)
    (line,) = [line for line in err.splitlines() if line.startswith("warning: ")]
    assert "8 of the 8 validation images (100.0%) are also among the training images, byte for byte" in line
    study = optuna.load_study(study_name="few", storage=f"sqlite:///{place}/studies/few/study.db")
    assert study.user_attrs["preprocessing"]["orientation"] == "exif"


def test_data_that_a_training_refuses_is_exit_code_2_and_names_git_lfs(starsearch, place):
    for split, name in itertools.product(("train", "val"), ("cat", "dog")):
        (place / "icons" / split / name).mkdir(parents=True)
        for number in range(3):
            file = place / "icons" / split / name / f"{number}.png"
            Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(file)  # their shape is nowhere
            if split == "val" and number:
                file.write_bytes(LFS_POINTER)
    arguments = ("data", "check", "icons", "--workers", "1", "--resolution", "8")
    code, out, err = starsearch(*arguments)
    assert code == 2
    assert "4 of 6 validation images that were tried (66.7%) cannot be read, as " in err
    assert "(a pointer of Git LFS in place of the file; fetch it with `git lfs pull`). A training leaves" in err
    assert "All 6 training images that were tried are equal." in out
    assert "of other modes than RGB: 6 RGBA" in out
    assert "leaves such images out." not in out
    code, out, _ = starsearch(*arguments, "--json")
    assert (code, json.loads(out)["orientation"]) == (2, "exif")


def test_data_check_shows_the_first_classes_and_the_last_and_what_was_left_out(starsearch, place):
    write_pictures(place / "many", {f"kind {number:02}": 2 for number in range(9)}, size=(8, 8))
    for name in ("a.txt", "b.txt", "c.json"):
        (place / "many" / name).touch()
    options = ("--validation-fraction", "0.5", "--workers", "1", "--resolution", "8")
    code, out, _ = starsearch("data", "check", "many", *options)
    assert code == 0
    for words in ("There are 9 classes", "04: kind 04/00", "… 3 more …", "class kind 08: ", "2 .txt, 1 .json, which"):
        assert words in out
    assert "class kind 05: " not in out
    _, out, _ = starsearch("data", "check", "many", *options, "--samples", "4")
    assert "4 of 9 tried, all can be read; --samples N tries more" in out


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("validate starnet_s1 --data nowhere", "'nowhere' names no data set"),
        ("validate starnet_s1 --data imagenet", "cannot be fetched"),
        ("validate starnet_s9 --data imagenet", "starnet_s9"),
        ("validate starnet_s1 --data imagenet --weights s050.pth.tar", "of another network"),
        ("validate starnet_s1 --data imagenet --crop-pct 2", "--crop-pct"),
        ("data check imagenet/train", "--data imagenet/train --validation-fraction 0.2"),
    ],
)
def test_a_mistake_is_one_message_and_exit_code_2(starsearch, command, words):
    code, _, err = starsearch(*command.split())
    assert code == 2
    assert words in err
