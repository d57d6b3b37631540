"""A folder in ImageNet's layout: class folders by synset name, JPEGs of mixed sizes, some of them broken."""

import numpy as np
from PIL import Image

SYNSETS = ("n01440764", "n01443537", "n01484850", "n01491361")


def write_imagenet(folder, *, train=60, validation=15, broken=2, sides=(36, 80)):
    """Pictures whose classes differ in colour and stripes, so that a small network learns some of them in seconds.

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
    across = np.arange(width if label % 2 else height) // 6 % 2
    stripes = np.broadcast_to(across if label % 2 else across[:, None], (height, width))
    pixels = rng.normal(110, 40, (height, width, 3))
    pixels[..., label // 2] += 50 * stripes
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
