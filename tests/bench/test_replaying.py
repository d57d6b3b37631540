import numpy as np
import pandas as pd
import pytest

from starsearch.api.bench import run_bench
from starsearch.bench.judge import Judge
from starsearch.bench.making import FIDELITIES
from starsearch.bench.networks import bench_networks, open_space
from starsearch.bench.replay import outcome, replay, summarise
from starsearch.bench.table import read_table
from starsearch.errors import SpecError
from starsearch.families.family import count_macs
from starsearch.families.text import parse_architecture
from tests.bench.conftest import NOISE, latency_of, top1_of

PROXY = FIDELITIES["proxy"]


@pytest.fixture(scope="module")
def judge(table):
    return Judge(table, "proxy")


def area(points, worst):
    """The area that points (losses) dominate below `worst`, strip by strip."""
    total, ceiling = 0.0, worst[1]
    for x, y in sorted(points):
        if y < ceiling:
            total += (worst[0] - x) * (ceiling - y)
            ceiling = y
    return total


def test_networks_of_the_table_are_judged_by_its_rows(judge, table):
    rows = read_table(table)
    for text, group in rows[rows["fidelity"] == "proxy"].groupby("network"):
        network, found = parse_architecture(text), judge.judge(parse_architecture(text))
        assert found.seconds == pytest.approx(10 + count_macs(network) / 2e7)
        assert found.latency_ms == pytest.approx(latency_of(network))
        if len(group) == 1:
            assert found.curve[-1] == pytest.approx(group["top1_percent"].item(), abs=0.01)


def test_what_a_seed_does_to_all_networks_alike_is_not_their_own(judge, table):
    rows = read_table(table)
    table = rows[rows["fidelity"] == "proxy"].pivot_table(index="network", columns="seed", values="top1_percent")
    table = table.dropna()
    values = table.to_numpy()
    effects = values.mean(axis=0) - values[:, 0].mean()
    # The mean square of the residuals of a two-way analysis of variance.
    residuals = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    noise = np.sqrt((residuals**2).sum() / (15 * 2))
    assert judge.noise == pytest.approx(noise, rel=0.02)
    assert noise == pytest.approx(NOISE, rel=0.3)
    for text, own in zip(table.index, (values - effects).mean(axis=1), strict=True):
        assert judge.judge(parse_architecture(text)).curve[-1] == pytest.approx(own, abs=0.02)


def test_other_networks_are_estimated(judge):
    others = [one for one in open_space().sample_architectures(20, 7) if one not in judge.networks]
    errors = [judge.judge(one).curve[-1] - top1_of(one) for one in others]
    assert np.mean(np.abs(errors)) < 2.5 * NOISE
    assert judge.error < 2.5 * NOISE
    assert np.median([abs(judge.judge(one).latency_ms / latency_of(one) - 1) for one in others]) < 0.1
    curve = judge.judge(others[0]).curve
    assert np.diff(curve) == pytest.approx([11, 4], abs=1)
    # They depart from the model as networks do that it has not seen, and one always as far.
    smooth = judge._model(others)[:, -1]
    departures = [judge.judge(one).curve[-1] - at for one, at in zip(others, smooth, strict=True)]
    assert np.std(departures) == pytest.approx(judge._own[-1, -1] ** 0.5, rel=0.5)


def test_a_replay_is_the_real_search_in_simulated_time(judge):
    rows = replay(judge, PROXY, "random", seed=3, trials=12)
    assert list(rows["evaluations"]) == [0, 0, 0, 0, *range(1, 13)]  # four anchors
    assert (rows["seconds"][:4] == 0).all()
    assert rows["hypervolume"].is_monotonic_increasing
    steps = rows["seconds"].diff()[4:]
    assert ((steps > 10) & (steps < 10 + 1.2e9 / 2e7 + 5)).all()
    again = replay(judge, PROXY, "random", seed=3, trials=12)
    assert rows.drop(columns="ask_s").equals(again.drop(columns="ask_s"))
    assert not rows["hypervolume"].equals(replay(judge, PROXY, "random", seed=4, trials=12)["hypervolume"])


def test_a_replay_stops_where_its_goal_is_reached(judge):
    whole = replay(judge, PROXY, "random", seed=3, trials=12)
    goal = whole["hypervolume"].iloc[-1]
    stopped = replay(judge, PROXY, "random", seed=3, trials=12, goal=goal)
    first = whole[whole["hypervolume"] >= goal].iloc[0]
    assert len(stopped) == first.name + 1
    found = outcome(stopped, trials=12, goal=goal)
    assert (found["evaluations"], found["seconds"]) == (first["evaluations"], first["seconds"])
    assert outcome(stopped, trials=12, goal=1.0)["evaluations"] == np.inf


def test_the_hypervolume_is_that_of_the_truth(judge):
    rows = replay(judge, PROXY, "random", seed=0, trials=1)
    truth = {one: judge.judge(one) for one in judge.networks}
    tops = [one.curve[-1] for one in truth.values()]
    slowest = max(one.latency_ms for one in truth.values())
    anchors = [truth[one] for one in list(bench_networks(7))[3:]]
    losses = [((max(tops) - one.curve[-1]) / np.ptp(tops), one.latency_ms / slowest) for one in anchors]
    assert rows["hypervolume"][3] == pytest.approx(area(losses, (1, 1)))


def test_halving_spends_less_on_as_many_candidates(judge):
    whole = replay(judge, PROXY, "random", seed=0, trials=18)
    halved = replay(judge, PROXY, "random+halving", seed=0, trials=18)
    assert halved["evaluations"].iloc[-1] == 18
    assert halved["seconds"].iloc[-1] < 0.7 * whole["seconds"].iloc[-1]


def test_ctrl_c_ends_the_replays_and_not_only_a_study(table, judge, monkeypatch):
    def interrupt(_network):
        raise KeyboardInterrupt

    monkeypatch.setattr(judge, "judge", interrupt)
    with pytest.raises(KeyboardInterrupt):
        replay(judge, PROXY, "random", seed=0, trials=5)


def test_half_of_the_replays_count_and_the_interval_is_that_of_resampled_seeds():
    def rows(sampler, evaluations):
        common = {"sampler": sampler, "ask_s": 0.5, "slowest_ask_s": 1.0, "trials": 9, "goal": 0.5}
        return [{**common, "seed": at, "evaluations": one, "seconds": 3600 * one} for at, one in enumerate(evaluations)]

    outcomes = pd.DataFrame(rows("tpe", [1, 2, 3, 4, 5, 6, 7, np.inf, np.inf]) + rows("random", [8.0] + [np.inf] * 8))
    tpe, rand = summarise(outcomes).to_dict("records")
    assert (tpe["evaluations"], tpe["hours"], tpe["reached"]) == (5, 5, 7 / 9)
    # Of nine values the median's 90 % interval is about from the third to the seventh, by the binomial distribution.
    assert (tpe["evaluations_low"], tpe["evaluations_high"]) == (3, 7)
    assert rand["evaluations"] == np.inf


def test_the_command_prints_a_row_a_sampler_and_says_what_is_estimated(starsearch, table, tmp_path):
    csv = tmp_path / "replays.csv"
    options = ["--seeds", "1", "--trials", "10", "--table", str(table), "--csv", str(csv)]
    code, out, err = starsearch("bench", "run", "--samplers", "random", *options)
    assert code == 0, err
    assert "Trainings of 40 networks are looked up" in " ".join(out.split())
    before = pd.read_csv(csv)
    assert list(before["sampler"]) == ["nsga2", "random"]
    whole = replay(Judge(table, "proxy"), PROXY, "nsga2", seed=0, trials=10)
    assert before["goal"].tolist() == [whole["hypervolume"].iloc[-1]] * 2, "to the last digit"
    code, out, err = starsearch("bench", "run", "--samplers", "random,qmc:3", *options)
    assert "3 of 3 replays" in err
    assert "1 of 3" not in err, "what is there is not repeated"
    after = pd.read_csv(csv)
    assert after[:2].astype(before.dtypes).equals(before)  # whole numbers are floats beside one that is infinite
    assert list(after["trials"]) == [10, 10, 3]
    after.loc[2, ["trials", "evaluations"]] = 10, 9
    after.to_csv(csv, index=False)
    assert starsearch("bench", "run", "--samplers", "qmc:4", *options)[0] == 0
    repeated = pd.read_csv(csv)
    assert list(repeated["sampler"]) == ["nsga2", "random", "qmc"], "others' outcomes stay"
    assert list(repeated["trials"]) == [10, 10, 4], "who gives up after 4 is not there after 9"
    code, _, err = starsearch("bench", "run", "--samplers", "random", *options, "--trials", "12")
    assert code == 2
    assert "after 10 candidates, not after 12" in " ".join(err.split())
    text = csv.read_text()
    for one in ("proxy,40", Judge(table, "proxy").digest):
        csv.write_text(text.replace(one, f"{one[:-1]}z"))
        assert starsearch("bench", "run", "--samplers", "random", *options)[0] == 2
    with pytest.raises(SpecError, match="at least one sampler"):
        run_bench(table, [])
    csv.write_text(text.replace("proxy,40", "proxy,41"))
    code, _, err = starsearch("bench", "run", "--samplers", "random", *options)
    assert code == 2
    assert "was not written with this table" in err
    csv.write_text("")
    code, _, err = starsearch("bench", "run", "--samplers", "random", *options)
    assert code == 2
    assert "cannot be read as outcomes of replays" in " ".join(err.split())
    code, _, err = starsearch("bench", "run", "--samplers", "rnadom", *options)
    assert code == 2
    assert "Did you mean 'random'" in err
    for samplers, said in (("random,qmc,random:5", "named twice"), ("nsga2:5", "leave :5 out")):
        code, _, err = starsearch("bench", "run", "--samplers", samplers, *options)
        assert code == 2
        assert said in " ".join(err.split())
    code, _, err = starsearch("bench", "run", "--table", str(tmp_path))
    assert code == 2
    assert "starsearch bench make" in err
