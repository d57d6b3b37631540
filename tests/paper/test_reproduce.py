"""Parts of the paper rerun: exact counts, claims judged, and trainings that go on where they were stopped."""

from math import comb

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from starsearch.api.reproducing import REPRODUCTIONS, reproduce
from starsearch.cli.app import app
from starsearch.data import open_data
from starsearch.families.family import presets
from starsearch.families.text import parse_architecture
from starsearch.paper.counts import count_as_fvcore
from starsearch.paper.finding import Setting, interval_of_mean
from starsearch.paper.spans import implicit_rank
from starsearch.paper.trainings import TrainedTable, find_top1, judge_top1
from starsearch.progress import follow


@pytest.mark.parametrize("d", range(1, 9))
def test_a_star_spans_the_products_of_two_inputs(d):
    rng = np.random.default_rng(0)
    points = rng.standard_normal((200, d))
    inputs = np.append(points, np.ones((200, 1)), axis=1)
    monomials = np.stack([inputs[:, i] * inputs[:, j] for i in range(d + 1) for j in range(i, d + 1)], axis=1)
    assert implicit_rank(d) == np.linalg.matrix_rank(monomials) == (d + 2) * (d + 1) // 2
    assert implicit_rank(d, case="one") == d + 1
    assert implicit_rank(d, case="self") == d + 1  # with the constant


@pytest.mark.parametrize("d", range(1, 5))
def test_two_stars_span_the_polynomials_of_degree_four(d):
    assert implicit_rank(d, layers=2) == comb(d + 4, 4)


# Of fvcore, on the official code at 224 px.
@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("starnet_s050", 92_771_712),
        ("starnet_s1", 424_608_832),
        ("starnet_s2", 546_835_712),
        ("starnet_s3", 757_424_384),
        ("starnet_s4", 1_054_039_808),
    ],
)
def test_multiply_adds_are_counted_as_the_paper_counts_them(name, macs):
    assert count_as_fvcore(presets()[name]) == macs


def test_the_interval_is_students():
    mean, low, high = interval_of_mean([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))


TABLE = TrainedTable(networks={"a": ("starnet_s1", 70.0), "b": ("starnet_s2", 71.0), "c": ("starnet_s3", 72.0)})


@pytest.mark.parametrize(
    ("table", "rows", "verdict"),
    [
        (TABLE, [[1, 2, 3], [2, 3, 4], [1, 3, 4]], "held"),
        (TABLE, [[3, 2, 1], [4, 3, 2], [4, 3, 1]], "did not hold"),
        (TABLE, [[1, 2, 3], [3, 2, 1], [1, 3, 2]], "could not be told"),
        (TABLE, [[1, 2, 3]], "could not be told"),
        (
            TrainedTable(networks=TABLE.networks, contrast={"c": 1, "a": -1, "b": 0}),
            [[1, 9, 3], [1, 9, 4]],
            "could not be told",
        ),
        (TrainedTable(networks=TABLE.networks, contrast={"c": 1, "a": -1, "b": 0}), [[1, 9, 3], [1, 9, 3.1]], "held"),
    ],
)
def test_a_claim_is_judged_by_the_interval_over_seeds(table, rows, verdict):
    found = judge_top1(table, pd.DataFrame(rows, columns=list("abc"), dtype=float), "digits")
    assert found.verdict == verdict
    if len(rows) < 2:
        assert "--seeds 3" in found.sentence


def test_every_network_of_a_table_can_be_built():
    for part in REPRODUCTIONS.values():
        if part.needs_data:
            (table,) = part.find.args
            assert len({parse_architecture(text) for text, _ in table.networks.values()}) == len(table.networks)
            assert table.contrast is None or abs(sum(table.contrast.values())) < 1e-9


def test_trainings_go_on_where_they_were_stopped(tmp_path):
    small = {"a": ("starnet:embed_dim=8,depths=1-1", 60.0), "b": ("starnet:embed_dim=8,depths=1-1,ops=sum", 55.0)}
    table = TrainedTable(networks=small, contrast={"a": 1, "b": -1})
    setting = Setting(scale="small", seeds=2, data=open_data("digits"), folder=tmp_path, epochs=1)
    steps = find_top1(table, setting)
    for progress in steps:
        if progress.stage.startswith("1 of 4"):
            steps.close()
    stages = []
    found = follow(find_top1(table, setting), lambda progress: stages.append(progress.stage))
    assert stages[0].startswith("1 of 4")
    assert found.rows["network"].tolist() == ["a", "b"]
    assert found.rows["here"].between(5, 100).all()
    assert follow(find_top1(table, setting), stages.append).rows.equals(found.rows)


def test_exact_parts_are_written_with_a_page(tmp_path):
    found = reproduce(["section3", "table5"], out=tmp_path)
    assert found["section3"].verdict == "held"
    assert found["table5"].verdict == "did not hold", "S4's printed FLOPs cannot be counted"
    page = (tmp_path / "README.md").read_text()
    assert "1054" in page
    assert "(d+2)(d+1)/2" in page
    assert len(pd.read_csv(tmp_path / "table5.csv")) == 8


@pytest.mark.parametrize(
    ("arguments", "word"),
    [(["tabel7"], "Did you mean 'table7'"), (["table7"], "CIFAR-10"), (["table7", "--scale", "paper"], "ImageNet")],
)
def test_what_cannot_be_rerun_is_told(arguments, word, tmp_path):
    done = CliRunner().invoke(app, ["reproduce", *arguments, "--out", str(tmp_path)])
    assert word in str(done.exception) + done.output
    assert not any(tmp_path.iterdir())


@pytest.mark.slow
def test_stars_fit_the_moons_better_than_sums(tmp_path):
    found = reproduce(["figure2"], out=tmp_path)["figure2"]
    here = found.rows.set_index("function")["here"]
    assert here["star"] > here["sum"] + 3
    assert here["star, no activation"] > here["sum, no activation"] + 3
    assert found.verdict == "held"
    assert (tmp_path / "figure2.png").stat().st_size > 10_000
