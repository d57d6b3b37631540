"""A folder in ImageNet's layout: class folders by synset name, JPEGs of mixed sizes, some of them broken."""

import numpy as np
from PIL import Image

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")


def write_imagenet(folder, *, train=60, validation=15, broken=2, sides=(36, 80)):
    """Pictures whose classes differ in colour, not always clearly, so that a small network learns most in seconds.

    Args:
        folder: in which train/ and val/ are made.
        train, validation: images a class.
        broken: training images that are cut off in their middle.
        sides: shortest and longest side in pixels.
    """
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", validation)):
        for label, synset in enumerate(SYNSETS):
            (folder / split / synset).mkdir(parents=True)
            for number in range(count):
                width, height = rng.integers(*sides, size=2)
                picture = _picture(rng, label, int(width), int(height))
                picture.save(folder / split / synset / f"{synset}_{number}.JPEG", quality=85)
    for number in range(broken):
        file = folder / "train" / SYNSETS[number] / f"{SYNSETS[number]}_3.JPEG"
        file.write_bytes(file.read_bytes()[:200])
    return folder


def _picture(rng, label, width, height):
    """Noise in a tint: each image has its own, around that of its class, so that no network is always right."""
    tint = rng.normal(0, 14, 3) + 30 * (np.arange(3) == label)
    pixels = 110 + tint + rng.normal(0, 40, (height, width, 3))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
