import re

import pytest
import yaml

from starsearch.architecture import ANCHORS, parse_architecture
from starsearch.export import CardFacts, model_card
from starsearch.measurement import Measurement, Prediction

ARCHITECTURE = parse_architecture("starnet:embed_dim=12,depths=1-0-2,ops=star-star-sum,kernel_size=3-7-5,mlp_ratio=2.5")
FACTS = CardFacts(
    study="flowers",
    trial=17,
    data="a folder of 102 flowers | train, val",
    resolution=64,
    num_classes=102,
    recipe={"lr": 0.002, "optimizer": "adamw"},
    fidelity={"name": "proxy", "epochs": 5, "samples": 10_000},
    seed=4,
    top1_percent=71.256,
    top5_percent=90.0,
    int8_top1_percent=70.5,
    latencies=(
        Measurement(name="latency_ms", value=2.3456, spread=0.0123, runs=40, device="Example CPU, 1 thread"),
        Prediction(name="latency_ms@phone", value=1.5, low=1.4, high=1.61, device="A phone, coreml 9"),
        Measurement(name="int8_latency_ms", value=1.25),
    ),
    onnx_difference=2.5e-6,
    needs_starsearch=True,
)


def test_the_card_holds_every_fact_with_its_unit():
    card = model_card(ARCHITECTURE, FACTS)
    for text in (
        "# Trial 17 of study flowers",
        "starnet:embed_dim=12,depths=1-0-2",
        "| top-1 | 71.26 % |",
        "| top-5 | 90.00 % |",
        "| top-1 as int8 | 70.50 % |",
        "| latency | 2.346 ± 0.012 ms on Example CPU, 1 thread (batch 1, 224 px, 40 paired readings) |",
        "| latency @phone | ≈ 1.500 ms predicted for A phone, coreml 9, 1.400–1.610 (90 % interval; batch 1, 224 px) |",
        "| latency as int8 | 1.250 ms (batch 1, 224 px) |",
        "| ONNX against PyTorch, by the logits' spread | 2.5e-06 |",
        "| 1 | 12 | 1 | star | relu6, one | 30 | 3×3 |",
        "| 2 | 24 | 0 | – | – | – | – |",
        "| 3 | 48 | 2 | sum | relu6, one | 120 | 5×5 |",
        "a folder of 102 flowers \\| train, val |",
        "| fidelity: epochs | 5 |",
        "| seed | 4 |",
        "| lr | 0.002 |",
        "import starsearch",
        "@inproceedings{ma2024rewrite",
    ):
        assert text in card


def test_what_is_not_known_is_left_out():
    facts = CardFacts(data="digits", resolution=32, num_classes=1000, anchor="starnet_s1", license="mit")
    card = model_card(ANCHORS["starnet_s1"], facts)
    assert "The published starnet_s1" in card
    assert "| MACs at 224 px (convolutions and head) | 421.9 M |" in card
    assert "| parameters | 2.869 M |" in card
    for absent in ("latency |", "top-1", "None", "import starsearch", "seed"):
        assert absent not in card


@pytest.mark.parametrize("license_name", [None, "cc-by-4.0"])
def test_the_front_matter_is_yaml_as_the_hub_reads_it(license_name):
    facts = CardFacts(data="digits", resolution=32, num_classes=10, license=license_name)
    front_matter = yaml.safe_load(model_card(ARCHITECTURE, facts).split("---")[1])
    assert front_matter["library_name"] == "timm"
    assert front_matter["pipeline_tag"] == "image-classification"
    assert front_matter.get("license") == license_name


def test_every_row_of_a_table_has_as_many_cells_as_its_heading():
    lines = model_card(ARCHITECTURE, FACTS).splitlines()
    tables = [[]]
    for line in lines:
        if line.startswith("|"):
            tables[-1].append(len(re.findall(r"(?<!\\)\|", line)))
        elif tables[-1]:
            tables.append([])
    assert all(len(set(table)) == 1 for table in tables if table)
    assert len([table for table in tables if table]) == 3
