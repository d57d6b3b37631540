import re

import yaml

from starsearch.data.preprocessing import Preprocessing
from starsearch.export.card import model_card
from starsearch.families.family import presets
from starsearch.families.network import build_model
from starsearch.families.text import parse_architecture
from starsearch.measurement import Measurement, Prediction
from tests.export.networks import exportable

ARCHITECTURE = parse_architecture("starnet:embed_dim=12,depths=1-0-2,ops=star-star-sum,kernel_size=3-7-5,mlp_ratio=2.5")
FACTS = exportable(
    build_model(ARCHITECTURE, num_classes=102),
    source="trial 17 of study flowers",
    data="a folder of 102 flowers | train, val",
    preprocessing=Preprocessing(resolution=64, crop_pct=0.8, interpolation="bilinear", orientation="exif"),
    formats=("timm", "onnx"),
    recipe={"lr": 0.002, "optimizer": "adamw"},
    fidelity={"name": "proxy", "epochs": 5, "samples": 10_000},
    seed=4,
    accuracies=(
        Measurement(name="top1_percent", value=71.256, spread=1.4321, runs=1020),
        Measurement(name="top5_percent", value=90.0),
        Measurement(name="int8_top1_percent", value=70.5),
    ),
    latencies=(
        Measurement(name="latency_ms", value=2.3456, spread=0.0123, runs=40, device="Example CPU, 1 thread"),
        Prediction(name="latency_ms@phone", value=1.5, low=1.4, high=1.61, device="A phone, coreml 9"),
        Measurement(name="int8_latency_ms", value=1.25),
    ),
)


def test_the_card_holds_every_fact_with_its_unit():
    card = model_card(FACTS)
    for text in (
        "# Trial 17 of study flowers",
        "starnet:embed_dim=12,depths=1-0-2",
        "| top-1 | 71.26 ± 1.43 % of 1,020 images |",
        "| top-5 | 90.00 % |",
        "| top-1 as int8 | 70.50 % |",
        "| latency | 2.346 ± 0.012 ms on Example CPU, 1 thread (batch 1, 224 px, 40 paired readings) |",
        "| latency @phone | ≈ 1.500 ms predicted for A phone, coreml 9, 1.400–1.610 (90 % interval; batch 1, 224 px) |",
        "| latency as int8 | 1.250 ms (batch 1, 224 px) |",
        "| parameters | 0.065 M (0.109 M with ImageNet's 1,000 classes) |",
        "± of an accuracy is the standard error of the validation images",
        "turned upright as its EXIF tag says and laid over white where it is transparent, is resized (bilinear)",
        "until it just covers 80×80 (height × width) pixels, cropped to the 64×64 in its middle",
        "from model import CLASS_NAMES, load",
        "pip install PATH/OR/URL/OF/ITS/CHECKOUT",
        "python run_torch.py PICTURE",
        "python run_onnx.py PICTURE",
        "| 1 | 1 | star | one | 2.5 | both | 3 | 12 |",
        "| 2 | 0 | – | – | – | – | – | 24 |",
        "| 3 | 2 | sum | one | 2.5 | both | 5 | 48 |",
        "a folder of 102 flowers \\| train, val |",
        "| fidelity: epochs | 5 |",
        "| seed | 4 |",
        "| lr | 0.002 |",
        "import starsearch.timm_models",
        "@inproceedings{ma2024rewrite",
    ):
        assert text in " ".join(card.split())


def test_what_is_not_known_is_left_out():
    model = build_model(presets()["starnet_s1"])
    card = model_card(exportable(model, source="random weights, not trained", formats=["onnx"], anchor="starnet_s1"))
    assert "The published starnet_s1" in card
    assert "| MACs at 224 px (convolutions and head) | 421.9 M |" in card
    assert "| parameters | 2.869 M |" in card
    for absent in ("latency |", "top-1", "None", "starsearch`", "seed", "## Training", "run_torch.py", "create_model"):
        assert absent not in card


def test_the_front_matter_is_yaml_as_the_hub_reads_it():
    front_matter = yaml.safe_load(model_card(FACTS).split("---")[1])
    assert front_matter["library_name"] == "timm"
    assert front_matter["pipeline_tag"] == "image-classification"


def test_every_row_of_a_table_has_as_many_cells_as_its_heading():
    lines = model_card(FACTS).splitlines()
    tables = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(len(re.findall(r"(?<!\\)\|", line)))
        elif tables[-1]:
            tables.append([])
    assert all(len(set(table)) == 1 for table in tables if table)
    assert len([table for table in tables if table]) == 3
