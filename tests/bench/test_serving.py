import numpy as np
import optuna
import pytest

from starsearch.bench.networks import bench_networks, open_space
from starsearch.bench.serving import StarBenchProblem, write_syne_tune
from starsearch.bench.table import read_table
from starsearch.errors import SpecError
from starsearch.families.family import presets
from starsearch.families.text import format_architecture
from tests.bench.conftest import latency_of


def row_of(table, network, seed=0):
    rows = read_table(table)
    is_it = (rows["network"] == format_architecture(network)) & (rows["seed"] == seed) & (rows["fidelity"] == "proxy")
    return rows[is_it].iloc[0]


def test_optuna_optimises_the_problem_as_it_is(table):
    problem = StarBenchProblem(table)
    study = optuna.create_study(directions=problem.directions, sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(problem, n_trials=4)
    for trial in study.trials:
        assert trial.distributions == problem.search_space
        assert trial.values == list(problem.evaluate(trial.params))
    assert problem.metric_names == ["top1_percent", "latency_ms"]
    assert [one.name for one in problem.directions] == ["MAXIMIZE", "MINIMIZE"]


def test_the_problem_knows_the_table_and_the_spaces_constraint(table):
    problem, s1 = StarBenchProblem(table), presets()["starnet_s1"]
    params = open_space().encode_architecture(s1)
    known = problem.evaluate(params)
    assert known == pytest.approx((row_of(table, s1)["top1_percent"], latency_of(s1)), abs=0.01)
    for number in (np.int64, float):
        spelled = {name: number(one) if isinstance(one, int) else one for name, one in params.items()}
        assert problem.evaluate(spelled) == known
    assert max(problem.evaluate_constraints(params)) <= 0
    largest = open_space().corner(largest=True)
    assert max(problem.evaluate_constraints(largest)) > 0
    first, *others = params
    for wrong in ({name: params[name] for name in others}, params | {first: 999}, params | {"kernel": 3}):
        with pytest.raises(SpecError, match=f"unknown: {'kernel' if 'kernel' in wrong else first}"):
            problem.evaluate(wrong)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
def test_syne_tune_reads_its_blackbox(table, tmp_path):
    tabular = pytest.importorskip("syne_tune.blackbox_repository.blackbox_tabular")
    pytest.importorskip("fastparquet")
    folder = write_syne_tune(table, "proxy", tmp_path / "blackbox")
    blackbox = tabular.deserialize(str(folder))["proxy"]
    assert len(blackbox.hyperparameters) == 40
    drawn = list(bench_networks(40))[14]  # trained by three seeds
    params = open_space().encode_architecture(drawn)
    assert params.keys() == blackbox.configuration_space.keys()
    for seed in range(3):
        row = row_of(table, drawn, seed)
        found = blackbox.objective_function(params, fidelity={"epochs": 2}, seed=seed)
        assert found["metric_top1_error_percent"] == pytest.approx(100 - float(row["curve"].split()[1]), abs=0.01)
        assert found["metric_latency_ms"] == pytest.approx(latency_of(drawn), rel=1e-5)
        assert found["metric_elapsed_time"] == pytest.approx(row["cpu_seconds"] * 2 / 3, rel=1e-5)
