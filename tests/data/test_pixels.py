"""What a pixel means: every mode of Pillow, files of more than 8 bits, transparency and orientation, read as RGB."""

import io
import re
import struct

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import ImageFolder

from starsearch.data import open_data, open_validation
from tests.data.imagenet_like import SYNSETS

WHITE, GREY, RED = (255, 255, 255), (100, 100, 100), (255, 0, 0)


def _palette(*colours, mode="P"):
    image = Image.new("P", (1, 1), 1)
    image.putpalette([value for colour in colours for value in colour])
    return image if mode == "P" else image.convert(mode)


def _transparent(image, key):
    image.info["transparency"] = key
    return image


def _of_values(values, dtype, mode=None):
    raw = np.array([values], dtype=dtype)
    return Image.frombytes(mode, (len(values), 1), raw.tobytes()) if mode else Image.fromarray(raw)


SIXTEEN, SIXTEEN_AS_RGB = (0, 257 * 100, 257 * 100 + 200, 65535), ((0,) * 3, GREY, (101,) * 3, WHITE)

OPENED = {
    "1": (Image.new("1", (1, 1), 1), (WHITE,)),
    "L": (Image.new("L", (1, 1), 100), (GREY,)),
    "L of a transparent value": (_transparent(Image.new("L", (1, 1), 100), 100), (WHITE,)),
    "LA": (Image.new("LA", (1, 1), (100, 128)), ((177,) * 3,)),
    "La": (Image.new("LA", (1, 1), (100, 128)).convert("La"), ((177,) * 3,)),
    "P": (_palette(WHITE, RED), (RED,)),
    "P of a transparent colour": (_transparent(_palette(WHITE, RED), 1), (WHITE,)),
    "P of half-transparent colours": (_transparent(_palette(WHITE, RED), b"\xff\x80"), ((255, 127, 127),)),
    "PA": (_palette(WHITE, RED, mode="PA"), (RED,)),
    "RGB": (Image.new("RGB", (1, 1), RED), (RED,)),
    "RGB of a transparent colour": (_transparent(Image.new("RGB", (1, 1), RED), RED), (WHITE,)),
    "RGBA": (Image.new("RGBA", (1, 1), (0, 0, 0, 0)), (WHITE,)),
    "RGBa": (Image.new("RGBA", (1, 1), (255, 0, 0, 128)).convert("RGBa"), ((255, 127, 127),)),
    "RGBX": (Image.new("RGBX", (1, 1), (255, 0, 0, 0)), (RED,)),
    "CMYK": (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (RED,)),
    "YCbCr": (Image.new("YCbCr", (1, 1), (76, 85, 255)), (RED,)),
    "LAB": (Image.new("LAB", (1, 1), (138, 209, 198)), (RED,)),
    "HSV": (Image.new("HSV", (1, 1), (0, 255, 255)), (RED,)),
    "I;16": (_of_values(SIXTEEN, "<u2"), SIXTEEN_AS_RGB),
    "I;16L": (_of_values(SIXTEEN, "<u2", "I;16L"), SIXTEEN_AS_RGB),
    "I;16B": (_of_values(SIXTEEN, ">u2", "I;16B"), SIXTEEN_AS_RGB),
    "F": (_of_values((0, 100 / 255, 1), "f4"), ((0,) * 3, GREY, WHITE)),
}


class Pictures(list):
    """Opened pictures with classes in turn, as torchvision's data sets have them."""

    def __getitem__(self, index):
        return super().__getitem__(index).copy(), index % 2

    @property
    def targets(self):
        return [index % 2 for index in range(len(self))]


@pytest.fixture(scope="module")
def opened():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("timm.data.create_dataset", lambda *_, **__: Pictures(image for image, _ in OPENED.values()))
        return open_data("torch/pictures").train


@pytest.mark.parametrize("mode", OPENED)
def test_every_mode_is_scaled_by_its_range_and_transparency_is_white(opened, mode):
    image, expected = OPENED[mode]
    assert image.mode == mode.split()[0]
    pixels = np.asarray(opened.read(list(OPENED).index(mode)))
    assert pixels.dtype == np.uint8
    np.testing.assert_allclose(pixels[0].astype(int), expected, atol=5 if mode in ("YCbCr", "LAB") else 0)


def _tiff(values, *, bits, photometric=1):
    """A grey TIFF of one row, by the specification: Pillow writes neither 12 bits nor white as 0."""
    pixels = bytes(np.packbits([int(bit) for value in values for bit in f"{value:0{bits}b}"]))
    pixels += bytes(len(pixels) % 2)
    tags = {256: len(values), 257: 1, 258: bits, 259: 1, 262: photometric, 273: 8, 277: 1, 278: 1, 279: len(pixels)}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    return struct.pack("<2sHI", b"II", 42, 8 + len(pixels)) + pixels + struct.pack("<H", len(tags)) + entries + bytes(4)


def _saved(image, kind, **options):
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


FILES = {
    "sixteen.png": (_saved(_of_values(SIXTEEN, "<u2"), "PNG"), SIXTEEN_AS_RGB),
    "sixteen.pgm": (_saved(Image.fromarray(np.array([SIXTEEN], "i4")), "PPM"), SIXTEEN_AS_RGB),  # opened as I
    "ten.pgm": (b"P5 3 1 1023\n" + struct.pack(">3H", 0, 401, 1023), ((0,) * 3, GREY, WHITE)),
    "twelve.tif": (_tiff((0, 1606, 4095), bits=12), ((0,) * 3, GREY, WHITE)),
    "white_is_zero.tif": (_tiff((0, 65535), bits=16, photometric=0), (WHITE, (0,) * 3)),
    "float.tif": (_saved(_of_values((0, 100 / 255, 1), "f4"), "TIFF"), ((0,) * 3, GREY, WHITE)),
    "alpha.webp": (_saved(Image.new("RGBA", (1, 1), (0, 0, 0, 0)), "WEBP", lossless=True), (WHITE,)),
    "key.gif": (_saved(_palette(WHITE, RED), "GIF", transparency=1), (WHITE,)),
    "palette.png": (_saved(_palette(WHITE, RED), "PNG", transparency=b"\xff\x80"), ((255, 127, 127),)),
    "ink.jpg": (_saved(Image.new("CMYK", (1, 1), (0, 255, 255, 0)), "JPEG"), (RED,)),  # Adobe's, stored inverted
    "bits.png": (_saved(Image.new("1", (1, 1), 1), "PNG"), (WHITE,)),
}
RANGE_UNKNOWN = {
    "bytes_as_float.tif": (_saved(_of_values((0, 100, 255), "f4"), "TIFF"), "in 0..1 but reach from 0 to 255"),
    "signed.tif": (_saved(_of_values((-5, 100), "i2"), "TIFF"), "whose range the file does not say"),
    "thirty_two.tif": (_saved(_of_values((0, 100), "i4"), "TIFF"), "whose range the file does not say"),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The training images by their names."""
    root = tmp_path_factory.mktemp("files")
    for split in ("train", "val"):
        for name in ("files", "others"):
            (root / split / name).mkdir(parents=True)
            Image.new("L", (1, 1)).save(root / split / name / "black.png")
    for name, (content, _) in (FILES | RANGE_UNKNOWN).items():
        (root / "train" / "files" / name).write_bytes(content)
    train = open_data(str(root)).train
    return train, {train.names[index].partition("/")[2]: index for index in range(len(train))}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_scaled_by_the_range_that_its_format_says(files, name):
    train, places = files
    pixels = np.asarray(train.read(places[name]))[0].astype(int)
    np.testing.assert_allclose(pixels, FILES[name][1], atol=1 if name.endswith("jpg") else 0)


@pytest.mark.parametrize("name", RANGE_UNKNOWN)
def test_a_file_whose_range_is_unknown_is_unreadable_with_the_reason(files, name):
    train, places = files
    with pytest.raises(ValueError, match=re.escape(RANGE_UNKNOWN[name][1])):
        train.read(places[name])


UPRIGHT = np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10


def _photo(file):
    """A photo of a camera that was held upright: stored turned by a quarter, which its EXIF says."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(UPRIGHT))).save(file, exif=exif)


@pytest.mark.parametrize(("classes", "default"), [(("cat", "dog"), "exif"), (SYNSETS[:2], "stored")])
def test_photos_are_turned_upright_except_imagenets_and_where_an_option_says_otherwise(tmp_path, classes, default):
    root = tmp_path / "photos"
    for split in ("train", "val"):
        for name in classes:
            (root / split / name).mkdir(parents=True)
            _photo(root / split / name / "0.png")
    found = {asked: open_data(f"{root}{asked}") for asked in ("", "?orientation=exif", "?orientation=stored")}
    assert [data.orientation for data in found.values()] == [default, "exif", "stored"]
    for asked, data in found.items():
        expected = UPRIGHT if data.orientation == "exif" else np.rot90(UPRIGHT)
        for split in (data.train, data.validation, open_validation(f"{root}{asked}").validation):
            assert np.array_equal(split.read(1), expected)
    assert found[""].fingerprint == found[f"?orientation={default}"].fingerprint
    assert found["?orientation=exif"].fingerprint != found["?orientation=stored"].fingerprint


def test_a_librarys_photos_are_left_as_stored_unless_asked(tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        _photo(tmp_path / name / "0.png")
        Image.new("RGBA", (1, 1), (0, 0, 0, 0)).save(tmp_path / name / "1.png")
    monkeypatch.setattr("timm.data.create_dataset", lambda *_, **__: ImageFolder(tmp_path))
    stored, turned = open_data("torch/photos"), open_data("torch/photos?orientation=exif")
    assert np.array_equal(stored.train.read(0), np.rot90(UPRIGHT))
    assert np.array_equal(turned.train.read(0), UPRIGHT)
    assert turned.train.read(1).getpixel((0, 0)) == WHITE
    assert (stored.orientation, turned.orientation) == ("stored", "exif")
    assert turned.name == "torch/photos?orientation=exif"
    assert turned.fingerprint != stored.fingerprint
