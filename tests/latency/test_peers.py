"""Other networks of timm beside a study: measured once, kept, and shown on the study's own scale."""

import json

import pandas as pd
import pytest
import timm
from pandas.api.types import is_numeric_dtype
from typer.testing import CliRunner

from starsearch.api.peers import peers
from starsearch.cli.app import app
from starsearch.latency.peers import cache_file, peer_table, published_peers
from starsearch.latency.prediction.profile import load_profile
from starsearch.resources import shipped_folder


@pytest.fixture(autouse=True)
def _data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))


def test_every_published_peer_is_timms_and_says_where_its_figure_is_from():
    found = published_peers()
    assert found.index.is_unique
    assert set(found.index) <= set(timm.list_pretrained())
    assert found.notna().all(axis=None)
    assert found["top1_percent"].between(60, 85).all()
    assert set(found["distilled"]) == {"yes", "no"}


def test_what_was_measured_is_shown_on_the_scale_it_is_asked_for():
    file = cache_file()
    file.parent.mkdir(parents=True)
    rows = [
        ("shvit_s1.in1k", 224, 0.5, 0.01, 12, "here"),
        ("mine", 96, 2.0, 0.1, 6, "here"),
        ("x", 96, 9, 9, 6, "there"),
    ]
    columns = ["name", "resolution", "ratio", "ratio_std_error", "pairs", "device"]
    pd.DataFrame(rows, columns=columns).to_csv(file, index=False)
    found = peer_table(file, "here", with_shipped=True, reference_ms=4.0).set_index("name")
    assert found["latency_ms"].to_dict() == {"shvit_s1.in1k": 2.0, "mine": 8.0}
    assert found["latency_std_error"].tolist() == pytest.approx([0.04, 0.4])
    assert found.loc["shvit_s1.in1k", "top1_percent"] == 72.78
    assert pd.isna(found.loc["mine", "top1_percent"])
    assert peer_table(file, "elsewhere", with_shipped=True, reference_ms=1.0).empty


def test_a_device_whose_peers_ship_has_them_all_without_measuring():
    profile = load_profile(shipped_folder("profiles") / "epyc-demonet.yaml")
    found, text = peers("epyc-demonet")
    assert text == profile.reference.device.text
    assert (found["shipped"] == "epyc-demonet").all()
    assert found[["resolution", "latency_ms", "latency_std_error", "pairs"]].dtypes.map(is_numeric_dtype).all()
    ms = found.set_index(found["name"].str.partition(".")[0])["latency_ms"]
    assert set(found["name"]) == set(published_peers().index)
    # Each step of a family has more multiply-adds than the one before.
    for names in (["mobilenetv3_small_075", "mobilenetv3_small_100", "mobilenetv3_large_100"],
                  ["mobilenetv2_050", "mobilenetv2_100", "mobilenetv2_140"],
                  ["mobileone_s0", "mobileone_s1", "mobileone_s2"]):  # fmt: skip
        assert ms[names].is_monotonic_increasing


def test_shipped_latencies_are_marked_and_never_pass_for_measured_here():
    text = load_profile(shipped_folder("profiles") / "epyc-demonet.yaml").reference.device.text
    file, columns = cache_file("epyc-demonet"), ["name", "resolution", "ratio", "ratio_std_error", "pairs", "device"]
    assert file == cache_file()
    assert peer_table(file, text, with_shipped=False, reference_ms=8.0).empty
    file.parent.mkdir(parents=True)
    pd.DataFrame([("shvit_s1.in1k", 224, 0.5, 0.01, 12, text)], columns=columns).to_csv(file, index=False)
    assert peer_table(file, text, with_shipped=False, reference_ms=8.0)["name"].tolist() == ["shvit_s1.in1k"]
    found = peer_table(file, text, with_shipped=True, reference_ms=8.0).set_index("name")
    assert set(found.index) == set(published_peers().index)
    assert found.loc["shvit_s1.in1k", ["shipped", "latency_ms"]].tolist() == ["", 4.0]
    assert (found["shipped"].drop("shvit_s1.in1k") == "epyc-demonet").all()


def test_a_peer_that_timm_does_not_have_is_said_and_the_others_are_measured_once(tmp_path):
    names = "timm:mobilenetv3_small_050,nosuch_net,mobilenetv3_small_050.nosuch"
    command = ["peers", "--json", "--names", names]
    first, again = (json.loads(CliRunner().invoke(app, command).stdout) for _ in range(2))
    assert [bool(row["latency_ms"]) for row in first] == [True, False, False]
    assert first[1]["reason"].endswith("does not have it")
    assert "nosuch" in first[2]["reason"]
    kept = pd.read_csv(cache_file())
    assert kept["name"].tolist() == ["mobilenetv3_small_050"]
    assert again[0]["pairs"] == first[0]["pairs"] == kept["pairs"][0]
    printed = CliRunner().invoke(app, command[:1] + command[2:]).stdout
    assert "does not have it" in printed
    refused = CliRunner().invoke(app, ["peers", "--device", "iphone"])
    assert "figures from elsewhere" in str(refused.exception)
