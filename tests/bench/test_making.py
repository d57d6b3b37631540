import json
from collections import Counter

import pandas as pd
import pytest

from starsearch.api.bench import make_bench
from starsearch.bench.networks import bench_networks, bench_trainings, open_space, repeated_trainings
from starsearch.bench.table import read_table
from starsearch.errors import DataError, StudyError
from starsearch.families.family import count_macs, presets
from starsearch.recipe import Fidelity

TINY = Fidelity(name="tiny", resolution=16, epochs=2, samples=64, validation_samples=50, recipe="digits")


def make(out, **options):
    return make_bench(out, TINY, data="digits", networks=3, **options)


def test_the_networks_are_the_published_ones_their_sums_and_draws_of_all_sizes():
    networks = list(bench_networks(160))
    assert len(set(networks)) == 160
    published = [one for name, one in presets().items() if name.startswith("starnet")]
    assert networks[:7] == published
    assert [one.depths for one in networks[7:14]] == [one.depths for one in published]
    assert {one.ops for one in networks[7:14]} == {("sum",) * 4}
    space, macs = open_space(), [count_macs(one) for one in networks[14:]]
    assert all(space.why_outside(one) is None for one in networks[14:])
    quarters = pd.cut(macs, [0, 1.5e8, 3e8, 6e8, 1.2e9]).value_counts()
    assert quarters.min() > 25
    assert list(bench_networks(40)) == networks[:40]


def test_sixteen_drawn_networks_are_trained_by_three_seeds():
    trainings = bench_trainings(160)
    assert len(set(trainings)) == len(trainings) == 160 + 2 * 16
    times = Counter(one for one, _ in trainings)
    repeated = list(bench_networks(30))[14:]
    assert [one for one, count in times.items() if count == 3] == repeated
    assert repeated_trainings() == [(one, seed) for seed in range(3) for one in repeated]


def test_an_interrupted_table_goes_on_where_it_was(tmp_path):
    def interrupt(made):
        if made.there == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path, watch=interrupt)
    with (tmp_path / "rows.jsonl").open("a") as file:
        file.write('{"fidelity": "tiny", "netw')  # as a killed process leaves it
    said = []
    table = make(tmp_path, watch=said.append)
    assert [made.there for made in said] == [1, 2, 3]
    assert said[0].seconds_left > 0
    assert said[-1].seconds_left == 0
    rows = pd.read_csv(table)
    assert list(rows["name"]) == ["starnet_s050", "starnet_s100", "starnet_s150"]
    assert list(rows["macs"]) == [count_macs(presets()[name]) for name in rows["name"]]
    for row in rows.itertuples():
        curve = [float(value) for value in row.curve.split()]
        assert len(curve) == 2
        assert curve[-1] == pytest.approx(row.top1_percent, abs=0.01)
    before = table.read_bytes()
    make(tmp_path, watch=said.append)
    assert table.read_bytes() == before


def test_a_time_limit_leaves_the_rest_for_later(tmp_path):
    said = []
    make(tmp_path, time_limit_s=0, watch=said.append)
    assert [(made.there, made.wanted) for made in said] == [(0, 3)]


def test_tables_of_other_machines_are_merged_by_fidelity_network_and_seed(starsearch, tmp_path):
    here, there = tmp_path / "here", tmp_path / "there"
    make(here)
    rows = read_table(here)
    first = rows.iloc[[0]].assign(top1_percent=99.0)
    other = rows.iloc[[1]].assign(seed=1)
    there.mkdir()
    pd.concat([first, other]).to_csv(there / "starbench.csv.xz", index=False)
    make(here, merge=[there])
    merged = read_table(here)
    assert len(merged) == 4
    assert 99.0 not in set(merged["top1_percent"])
    alone = tmp_path / "alone"
    code, out, _ = starsearch("bench", "make", "--merge", there, "--out", alone)
    assert code == 0
    assert "no row was made" in out
    assert len(read_table(alone)) == 2
    new = tmp_path / "new"
    code, _, err = starsearch("bench", "make", "--merge", there, "--out", new, "--fidelity", "proxy")
    assert code == 2
    assert "--data" in err
    assert not new.exists()


def test_rows_of_another_recipe_or_other_data_are_refused(tmp_path):
    make(tmp_path)
    changed = json.loads((tmp_path / "rows.jsonl").read_text().split("\n\n")[0]) | {"seed": 9, "conditions": "other"}
    elsewhere = tmp_path / "elsewhere.jsonl"
    elsewhere.write_text(json.dumps(changed) + "\n")
    with pytest.raises(StudyError, match="'tiny' were made under different conditions"):
        make(tmp_path, merge=[elsewhere])
    elsewhere.write_text("nonsense")
    (tmp_path / "bad.csv.xz").write_bytes(b"nonsense")
    with pytest.raises(StudyError, match="cannot be read as a StarBench table"):
        make(tmp_path, merge=[tmp_path / "bad.csv.xz"])


def test_trainings_need_data(tmp_path):
    with pytest.raises(DataError, match="--data"):
        make_bench(tmp_path)


def test_the_command_says_what_is_left(starsearch, tmp_path):
    options = ["--networks", "2", "--out", tmp_path, "--time-limit", "0"]
    code, out, _ = starsearch("bench", "make", "--data", "digits", *options)
    assert code == 0
    assert "0 of 2 rows are there; 2 left" in out
    assert "the same command goes on" in out
    code, _, err = starsearch("bench", "make", *options)
    assert code == 2
    assert "--data" in err
    code, _, err = starsearch("bench", "make", "--latency", "--signals", *options)
    assert code == 2
    assert "give one of them" in err


def test_signals_are_columns_beside_the_trainings(tmp_path):
    make(tmp_path)
    make_bench(tmp_path, "signals", data="digits", networks=1)
    rows = read_table(tmp_path)
    signals = rows[rows["fidelity"] == "signals"]
    assert list(signals["name"]) == ["starnet_s050"]
    assert list(signals["signal/num_params"]) == list(signals["num_params"])
    assert signals["signal/nwot"].notna().all()
    assert rows.loc[rows["fidelity"] == "tiny", "top1_percent"].notna().all()
