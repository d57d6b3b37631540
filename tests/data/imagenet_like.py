"""Small data sets in the forms that ImageNet comes in: JPEGs of mixed sizes, grey and CMYK, of three of its classes."""

import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

SYNSETS = ("n01440764", "n02123045", "n07753592")  # tench, tabby, banana: ImageNet's classes 0, 281 and 954
INDICES = (0, 281, 954)


def jpeg(seed, *, mode="RGB", size=None):
    """The bytes of a JPEG of noise in coarse patches, 24 to 90 pixels a side."""
    rng = np.random.default_rng(zlib.crc32(str(seed).encode()))
    width, height = size or rng.integers(24, 90, 2)
    channels = {"RGB": 3, "L": 1, "CMYK": 4}[mode]
    coarse = rng.integers(0, 256, (-(-height // 8), -(-width // 8), channels), dtype=np.uint8)
    pixels = coarse.repeat(8, 0).repeat(8, 1)[:height, :width]
    out = io.BytesIO()
    Image.fromarray(pixels.squeeze(-1) if channels == 1 else pixels, mode=mode).save(out, "JPEG", quality=90)
    return out.getvalue()


def images(split, counts, *, classes=SYNSETS):
    """(name, class number, bytes) of `counts[class]` images each, named as ImageNet names those of the split."""
    found, number = [], 0
    for target, (synset, count) in enumerate(zip(classes, counts, strict=True)):
        for index in range(count):
            number += 1
            name = f"{synset}_{index}.JPEG" if split == "train" else f"ILSVRC2012_val_{number:08}.JPEG"
            mode = ("RGB", "RGB", "L", "CMYK")[index % 4]
            found.append((name, target, jpeg(f"{split} {synset} {index}", mode=mode)))
    return found


def content_of(data):
    """What is in either split, whatever the order: class, pixels."""
    return [
        sorted((data.classes[split.targets[index]], split.read(index).tobytes()) for index in range(len(split)))
        for split in (data.train, data.validation)
    ]


def write_folders(root, *, train=(5, 6, 7), validation=(4, 4, 4), classes=SYNSETS):
    """train/ and val/ of class folders; the folder."""
    for folder, split, counts in (("train", "train", train), ("val", "validation", validation)):
        for name, target, content in images(split, counts, classes=classes):
            place = Path(root) / folder / classes[target]
            place.mkdir(parents=True, exist_ok=True)
            (place / name).write_bytes(content)
    return Path(root)


def add_member(tar, name, content):
    """A file of these bytes."""
    about = tarfile.TarInfo(name)
    about.size = len(content)
    tar.addfile(about, io.BytesIO(content))


def write_original_tars(root, *, train=(5, 6, 7), validation=(4, 4, 4), classes=SYNSETS):
    """ImageNet's three original files of the images that `write_folders` writes."""
    from starsearch.data.sources.tars import DEVKIT, TRAIN, VALIDATION

    root.mkdir(parents=True, exist_ok=True)
    with tarfile.open(root / TRAIN, "w") as outer:
        for target in reversed(range(len(classes))):  # the order in the tar shall not matter
            inner_bytes = io.BytesIO()
            with tarfile.open(fileobj=inner_bytes, mode="w") as inner:
                for name, of, content in images("train", train, classes=classes):
                    if of == target:
                        add_member(inner, name, content)
            add_member(outer, f"{classes[target]}.tar", inner_bytes.getvalue())
    with tarfile.open(root / VALIDATION, "w") as tar:
        for name, _, content in images("validation", validation, classes=classes):
            add_member(tar, name, content)
    truth = [target for _, target, _ in images("validation", validation, classes=classes)]
    write_devkit(root / DEVKIT, truth, classes=classes)
    return root


def write_devkit(path, truth, *, classes=SYNSETS, unknown=False):
    """The development kit: numbers from 1 in an order of their own, and an inner node of WordNet's tree."""
    from scipy.io import savemat

    numbers = {target: len(classes) - target for target in range(len(classes))}  # not the synsets' order
    kind = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("num_children", "O")]
    rows = [(numbers[target], synset, "words", 0) for target, synset in enumerate(classes)]
    rows.append((len(classes) + 1, "n00001740", "entity", 3))
    meta = io.BytesIO()
    savemat(meta, {"synsets": np.array(rows, dtype=kind).reshape(-1, 1)})
    lines = "".join(f"{numbers[target]}\n" for target in truth) + "9\n" * unknown
    with tarfile.open(path, "w:gz") as tar:
        add_member(tar, "ILSVRC2012_devkit_t12/readme.txt", b"words")
        add_member(tar, "ILSVRC2012_devkit_t12/data/meta.mat", meta.getvalue())
        add_member(tar, "ILSVRC2012_devkit_t12/data/ILSVRC2012_validation_ground_truth.txt", lines.encode())


def write_shards(root, *, train=(5, 6, 7), validation=(4, 4, 4), target="cls", shards=2):
    """WebDataset shards as timm's of ImageNet: KEY.jpg, and the class in KEY.cls or KEY.json."""
    root.mkdir(parents=True, exist_ok=True)
    for split, counts in (("train", train), ("validation", validation)):
        found = images(split, counts)
        for shard in range(shards):
            with tarfile.open(root / f"imagenet1k-{split}-{shard:04}.tar", "w") as tar:
                for name, number, content in found[shard::shards]:
                    key = Path(name).stem
                    said = str(number) if target == "cls" else json.dumps({"label": number, "filename": name})
                    add_member(tar, f"{key}.{target}", said.encode())
                    add_member(tar, f"{key}.jpg", content)
    return root


def write_parquet(
    root, *, train=(5, 6, 7), validation=(4, 4, 4), names=SYNSETS, paths=True, files=2, group=3, folder="data"
):
    """Parquet files as the Hugging Face hub has them; `names` of the classes go into its metadata."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    for split, counts in (("train", train), ("validation", validation)):
        found = images(split, counts)
        for number in range(files):
            part = found[number::files]
            cells = [{"bytes": content, "path": name if paths else None} for name, _, content in part]
            kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
            table = pa.table(
                {"image": pa.array(cells, kind), "label": pa.array([target for _, target, _ in part], pa.int64())}
            )
            if names is not None:
                features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
                table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
            pq.write_table(table, place / f"{split}-{number:05}-of-{files:05}.parquet", row_group_size=group)
    return root
