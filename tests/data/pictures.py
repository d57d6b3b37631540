"""Small pictures on disk, for tests."""

import tarfile

import numpy as np
from PIL import Image

# What a clone without `git lfs pull` has in place of each file.
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def write_pictures(folder, counts, *, size=(20, 16)):
    """`counts[name]` PNG files in a folder of that name: noise, dark and bright in turn."""
    rng = np.random.default_rng(0)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(100 * (number % 2), 100 * (number % 2) + 60, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index:03}.png")


def pack(folder, tar):
    """The class folders of `folder`, as a tar."""
    with tarfile.open(tar, "w") as file:
        for entry in sorted(folder.iterdir()):
            file.add(entry, arcname=entry.name)
