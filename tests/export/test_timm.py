import json
import resource
import runpy
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from starsearch.data.preprocessing import Preprocessing
from starsearch.errors import ExportError
from starsearch.export.formats import timm as timm_format
from starsearch.export.formats.timm import needs_starsearch, timm_arguments
from starsearch.families.family import Architecture, presets
from starsearch.families.network import build_model
from starsearch.families.starnet import StarNetArchitecture
from starsearch.families.text import parse_architecture
from tests.command_line import python
from tests.export.networks import exportable, settled_model, write
from tests.strategies import architectures

TIMM_CAN = "starnet:embed_dim=8,depths=1-0-2,mlp_ratio=3"
TIMM_CANNOT = "starnet:embed_dim=8,depths=1-1,ops=sum-star,kernel_size=3"


def _run(code, *arguments, **environment):
    """Standard output of a fresh Python; the package is found as this process finds it."""
    finished = python("-c", textwrap.dedent(code), *arguments, environment=environment)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout.strip()


LOAD = """
    import sys, numpy, torch, timm
    torch.set_num_threads(1)
    for folder in sys.argv[2:]:
        if folder.endswith("ours"):
            import starsearch.timm_models
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
        with torch.inference_mode():
            logits = model(torch.from_numpy(numpy.load(sys.argv[1])))
        numpy.save(folder + ".logits.npy", logits.numpy())
        print(type(model).__module__, "starsearch" in sys.modules)
"""


def _logits(model, images):
    with torch.inference_mode():
        return model.eval()(torch.from_numpy(images)).numpy()


def test_timm_alone_loads_what_its_own_starnet_can_express_and_the_rest_once_starsearch_is_imported(tmp_path):
    texts = {"s100": "starnet_s100", "can": TIMM_CAN, "ours": TIMM_CANNOT}
    models = {name: settled_model(text, num_classes=5) for name, text in texts.items()}
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    for name, model in models.items():
        write(model, "timm", tmp_path / name)
    np.save(tmp_path / "images.npy", images)
    said = _run(LOAD, tmp_path / "images.npy", *(tmp_path / name for name in models)).splitlines()
    assert said == ["timm.models.starnet False"] * 2 + ["starsearch.families.starnet_module True"]
    for name, model in models.items():
        assert np.array_equal(np.load(tmp_path / f"{name}.logits.npy"), _logits(model, images))


WITHOUT_TIMM = """
    import sys, numpy, torch
    sys.modules.update(starsearch=None, timm=None)  # what Python keeps for a package that is not there
    sys.path.insert(0, sys.argv[1])
    from model import CLASS_NAMES, load
    with torch.inference_mode():
        numpy.save(sys.argv[2], load()(torch.from_numpy(numpy.load(sys.argv[2]))).numpy())
    print(*CLASS_NAMES)
"""


def test_model_py_is_the_network_where_neither_starsearch_nor_timm_is(tmp_path):
    model = settled_model(f"{TIMM_CANNOT},activation=both-post,act_type=hard_swish", num_classes=3, stem_stride=1)
    write(model, "timm", tmp_path / "out", class_names=("cat", "dog", "eel"))
    images = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)
    np.save(tmp_path / "values.npy", images)
    assert _run(WITHOUT_TIMM, tmp_path / "out", tmp_path / "values.npy", PYTHONPATH="") == "cat dog eel"
    assert np.abs(np.load(tmp_path / "values.npy") - _logits(model, images)).max() < 1e-5
    (tmp_path / "out" / "__pycache__").mkdir(exist_ok=True)
    write(model, "timm", tmp_path / "out")  # what Python has left there is no stranger's


@given(architectures(), st.sampled_from((0, 3)), st.sampled_from((1, 2)))
@settings(max_examples=15, deadline=None)
def test_model_py_of_any_architecture_answers_as_the_model(architecture, num_classes, stem_stride):
    torch.manual_seed(0)
    model = build_model(architecture, num_classes=num_classes, stem_stride=stem_stride).eval()
    for buffer in (value for key, value in model.named_buffers() if "running" in key):
        buffer.uniform_(0.5, 1.5)
    with tempfile.TemporaryDirectory() as folder:
        write(model, "timm", Path(folder), preprocessing=Preprocessing(resolution=32))
        if not needs_starsearch(model):
            return
        twin = runpy.run_path(f"{folder}/model.py")["load"]()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        expected, found = model(images), twin(images)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_the_folder_says_how_images_are_prepared_and_what_the_classes_are(tmp_path):
    model = settled_model(TIMM_CAN, num_classes=3)
    said = {"mean": (0.5, 0.4, 0.3), "std": (0.1, 0.2, 0.3), "interpolation": "bilinear", "crop_pct": 1.0}
    names = ("cat", "dog", "eel")
    write(model, "timm", tmp_path, preprocessing=Preprocessing(resolution=48, **said), class_names=names)
    loaded = timm.create_model(f"local-dir:{tmp_path}", pretrained=True)
    config = timm.data.resolve_model_data_config(loaded)
    assert tuple(config["input_size"]) == (3, 48, 48)
    assert {key: tuple(config[key]) if isinstance(value, tuple) else config[key] for key, value in said.items()} == said
    assert (tuple(loaded.pretrained_cfg["label_names"]), loaded.num_classes) == (names, 3)


@pytest.mark.parametrize("name", StarNetArchitecture.published)
def test_timms_keywords_of_an_anchor_build_the_anchor(name):
    ours = timm.create_model("starnet_s1", **timm_arguments(presets()[name])).state_dict()
    theirs = timm.create_model(name).state_dict()
    assert {key: value.shape for key, value in ours.items()} == {key: value.shape for key, value in theirs.items()}


@pytest.mark.parametrize(
    "values",
    [
        {"ops": ("star", "star", "sum", "star")},
        {"activation": "both"},
        {"act_type": "relu"},
        {"mlp_ratio": 2.5},
        {"mlp_ratio": (4, 4, 3, 4)},
        {"kernel_size": 5},
        {"widths": (24, 48, 96, 160)},
        {"stem_width": 16},
        {"branches": "one"},
        {"family": "demonet"},
    ],
)
def test_timm_cannot_express_what_it_has_no_keyword_for(values):
    assert timm_arguments(Architecture.of(**values)) is None


def test_what_a_stage_without_blocks_says_does_not_keep_timm_from_loading_it_but_a_stem_of_stride_one_does():
    architecture = Architecture.of(depths=(1, 0, 1), ops=("star", "sum", "star"), mlp_ratio=(3, 2.5, 3))
    assert timm_arguments(architecture) == {"base_dim": 24, "depths": [1, 0, 1], "mlp_ratio": 3}
    assert not needs_starsearch(build_model(architecture))
    assert needs_starsearch(build_model(architecture, stem_stride=1))


def test_exporting_replaces_an_earlier_export_and_changes_neither_the_model_nor_the_random_state(tmp_path):
    model = settled_model(TIMM_CANNOT, num_classes=9).to(memory_format=torch.channels_last).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (tmp_path / "out").mkdir()  # an empty folder is taken
    write(settled_model(TIMM_CAN, num_classes=2), "timm", tmp_path / "out")
    state = torch.random.get_rng_state()
    write(model, "timm", tmp_path / "out")
    assert model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["num_classes"] == 9
    files = {"config.json", "model.py", "model.safetensors", "run_torch.py"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == files
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"thesis.txt": "years of work"}, "holds 'thesis.txt'"),
        ({"config.json": "{}"}, "was not written by starsearch"),
        ({"config.json": "no json"}, "was not written by starsearch"),
        ({"README.md": "mine"}, "was not written by starsearch"),
        (None, "is a file; a timm export is a folder"),
    ],
)
def test_what_no_export_has_written_is_refused_and_stays(files, reason, tmp_path):
    out = tmp_path / "out"
    if files is None:
        out.write_text("a file")
    else:
        out.mkdir()
        for name, text in files.items():
            (out / name).write_text(text)
    with pytest.raises(ExportError, match=reason):
        write(settled_model(TIMM_CAN), "timm", out)
    assert out.is_file() if files is None else {path.name: path.read_text() for path in out.iterdir()} == files


def test_a_disk_that_takes_no_more_is_a_clear_error_and_leaves_nothing(tmp_path):
    model, limits = build_model(presets()["starnet_s050"]), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # files of so many bytes, no more
    try:
        with pytest.raises(ExportError, match=r"Cannot write the export to .*/out: File too large\. Free some space"):
            write(model, "timm", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_does_not_read_back_as_the_model_is_refused_and_leaves_nothing(tmp_path):
    model = settled_model(TIMM_CAN, num_classes=3)
    write(model, "timm", tmp_path / "out")
    with torch.no_grad():
        model.stages[2][1].g.conv.weight[0, 0] += 1e-7
    with pytest.raises(ExportError, match=r"first: 'stages\.2\.1\.g\.conv\.weight'"):
        timm_format.read_back(exportable(model), tmp_path / "out")
    with pytest.raises(ExportError, match="The model has 3 outputs; 2 class names were given"):
        write(model, "timm", tmp_path / "other", class_names=("cat", "dog"))
    model.architecture = parse_architecture("starnet:embed_dim=8,depths=1-1-2,mlp_ratio=3")
    with pytest.raises(ExportError, match="timm cannot load the exported folder"):
        write(model, "timm", tmp_path / "other")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
