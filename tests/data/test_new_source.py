"""A kind of data set is a file."""

from starsearch.data import open_data, open_validation, sources

STRIPES = """
from functools import partial

import numpy as np
from PIL import Image

from starsearch.data.dataset import SPLITS, Source, Split

FORM = "'stripes:N', N striped images of either of two classes"


def find(asked):
    kind, _, number = asked.path.partition(":")
    if kind != "stripes":
        return None
    return Source(name=asked.path, splits={split: partial(stripes, split, int(number)) for split in SPLITS})


def stripes(name, number):
    targets = np.repeat([0, 1], number)
    pixels = np.zeros((2, 8, 8), dtype=np.uint8)
    pixels[0, ::2] = pixels[1, :, ::2] = 255
    return Split(
        name=name,
        classes=("rows", "columns"),
        targets=targets,
        names=[f"{name} {index}" for index in range(2 * number)],
        content=lambda index: Image.fromarray(pixels[targets[index]]),
        in_memory=True,
    )
"""


def test_a_file_among_the_sources_adds_a_kind_of_data_set(tmp_path, monkeypatch):
    (tmp_path / "stripes.py").write_text(STRIPES)
    monkeypatch.setattr(sources, "__path__", [*sources.__path__, str(tmp_path)])
    data = open_data("stripes:4")
    assert (data.name, data.classes, data.num_train) == ("stripes:4", ("rows", "columns"), 8)
    assert data.train.read(0).getpixel((0, 0)) == (255, 255, 255)
    assert len(open_validation("stripes:4?orientation=stored").validation) == 8
    assert "'stripes:N', N striped images of either of two classes" in sources.forms()
