"""Signals judged by the table's trainings."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kendalltau

from starsearch.accuracy.evidence import published_top1_percent
from starsearch.accuracy.signals import AZ_NAS
from starsearch.api.signals import audit_signals
from starsearch.bench.table import read_table
from starsearch.errors import StudyError


@pytest.fixture(scope="module")
def with_signals(table, tmp_path_factory):
    """The table, with a signal that knows the accuracies, and one that half of the networks lack."""
    rows = read_table(table)
    trained = rows[(rows["fidelity"] == "proxy") & (rows["seed"] == 0)]
    signals = {"signal/macs": trained["top1_percent"], "signal/num_params": trained["num_params"].iloc[::2]}
    signals = trained[["network", "seed"]].assign(fidelity="signals", **signals)
    folder = tmp_path_factory.mktemp("with-signals")
    pd.concat([rows, signals]).to_csv(folder / "starbench.csv.xz", index=False)
    return folder


def test_the_tables_signals_are_judged_by_its_trainings(starsearch, with_signals):
    code, out, err = starsearch("signals", with_signals, "--signal", "macs", "--signal", "num_params", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert f"top-1 at 'proxy' of 40 networks of {with_signals}, cost by latency" in found["truth"]
    by_name = {one["signal"]: one for one in found["signals"]}
    assert by_name["macs"]["ranking_overall_value"] == by_name["macs"]["ranking_in_bands_value"] == 1
    assert by_name["macs"]["ranking_better_than_params"] > 0.95
    assert by_name["num_params"]["ranking_candidates"] == 20
    assert by_name["macs"]["sees_ops"] == 1  # of published networks and their sums
    assert by_name["macs"]["sees_kernel_size"] is None
    assert by_name["macs"]["seconds"] is None
    code, _, err = starsearch("signals", with_signals, "--data", "digits")
    assert code == 2
    assert "drop --data" in err
    code, _, err = starsearch("signals", with_signals, "--resolution", "96")
    assert (code, "drop --resolution" in err) == (2, True)


@pytest.fixture
def few(table, tmp_path):
    """Fourteen trainings of the table, and nothing else."""
    rows = read_table(table)
    rows = rows[(rows["fidelity"] == "proxy") & (rows["seed"] == 0)].iloc[:14]
    rows.to_csv(tmp_path / "starbench.csv.xz", index=False)
    return tmp_path


def test_an_earlier_epoch_and_the_model_are_judged_like_signals(few):
    _, (epoch, estimate) = audit_signals(str(few), signals=["epoch-1", "estimate"])
    rows = read_table(few)
    first = rows["curve"].str.split().str[0].astype(float)
    assert epoch.ranking.overall.value == pytest.approx(kendalltau(first, rows["top1_percent"]).statistic)
    assert (epoch.signal, estimate.signal) == ("epoch-1", "estimate")
    assert 0.3 < estimate.ranking.overall.value < 0.95, "of networks whose own accuracy is not told"


def test_the_shortest_trainings_of_a_table_are_judged_too(table, tmp_path):
    rows = read_table(table)
    proxy = rows[(rows["fidelity"] == "proxy") & (rows["seed"] == 0)].iloc[:14]
    quick = proxy.iloc[1:].assign(fidelity="quick", top1_percent=100 - proxy["top1_percent"])
    pd.concat([proxy, quick]).to_csv(tmp_path / "starbench.csv.xz", index=False)
    _, (found,) = audit_signals(str(tmp_path), signals=["quick"])
    assert (found.ranking.candidates, found.ranking.overall.value) == (13, -1)


def test_az_nas_ranks_the_judged_networks_alone(monkeypatch):
    values = {}

    def read(networks, _batches, **_options):
        yield from ()
        rng = np.random.default_rng(0)
        found = pd.DataFrame(rng.normal(size=(len(networks), len(AZ_NAS))), columns=list(AZ_NAS))
        values.update(zip(networks, found.to_numpy().tolist(), strict=True))
        return found

    monkeypatch.setattr("starsearch.api.signals.read_signals", read)
    _, found = audit_signals("starnet", signals=["az_nas"])
    top1 = {one: value for one, value in published_top1_percent().items() if one.family == "starnet"}
    ranks = pd.DataFrame([values[one] for one in top1], columns=list(AZ_NAS))
    expected = kendalltau(np.log(ranks.rank(pct=True)).sum(axis=1), list(top1.values())).statistic
    assert {one.signal: one for one in found}["az_nas"].ranking.overall.value == pytest.approx(expected)
    assert len(values) > len(top1)


def test_a_table_without_signals_has_its_networks_read(few):
    _, found = audit_signals(str(few), signals=["num_params"])
    assert [one.signal for one in found] == ["num_params"]
    assert found[0].ranking.candidates == 14
    assert found[0].ranking.overall.value == found[0].ranking.num_params.value


def test_a_table_of_latencies_alone_judges_nothing(table, tmp_path):
    rows = read_table(table)
    rows[rows["fidelity"] == "latency"].to_csv(tmp_path / "starbench.csv.xz", index=False)
    with pytest.raises(StudyError, match="0 trainings at 'proxy'; three are needed"):
        audit_signals(str(tmp_path))
