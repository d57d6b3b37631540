"""Trials/s of a study whose evaluation does nothing: starsearch's driver against Optuna's own loop.

Both keep their trials in an SQLite file, sample by TPE (multivariate, group), and search the same space by the same
two objectives; Optuna's side is `study.optimize` on a plain `sqlite:///` URL, which does not avoid duplicates. "Public
calls alone" is the least that a driver can do: one suggestion of TPE in memory, a trial's start and end in our storage.

    python studies/benchmarks/driver_overhead.py --trials 300 --rounds 3 --out driver_overhead.csv
"""

from __future__ import annotations

import warnings
from contextlib import closing
from functools import partial

import optuna
import sqlalchemy
from harness import by_turns, gate, in_folder, ratio, read_options, seconds, show, summarize, write
from small_study import make_spec, run

from starsearch.families.family import count_macs
from starsearch.measurement import Measurement
from starsearch.objective import Objective
from starsearch.records.record import StudyRecord
from starsearch.records.storage import close_storage, open_storage
from starsearch.records.trials import parameter_distributions

OBJECTIVES = (Objective(name="top1_percent", direction="maximize"), Objective(name="macs", direction="minimize"))


def values_of(architecture):
    """Something to trade off, at the cost of nothing: depth and stars against multiply-adds."""
    top1 = sum(architecture.depths) + sum(op == "star" for op in architecture.ops)
    return float(top1), float(count_macs(architecture, resolution=224))


def evaluate(candidate, **_options):
    yield from ()
    top1, macs = values_of(candidate.architecture)
    return Measurement(name="top1_percent", value=top1), Measurement(name="macs", value=macs)


def ours(folder, spec):
    run(f"sqlite:///{folder}/study.db", spec, evaluate)


def floor(folder, spec):
    """The least that public calls of Optuna do for a trial: a suggestion of TPE, its start, its end."""
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=spec.seed)
    directions = [one.direction for one in spec.objectives]
    mirror, distributions = (
        optuna.create_study(directions=directions, sampler=sampler),
        parameter_distributions(spec.space.parameters),
    )
    with closing(StudyRecord.open(f"sqlite:///{folder}/study.db", spec)):
        storage = open_storage(f"sqlite:///{folder}/study.db")
        study_id = storage.get_study_id_from_name(spec.name)
        for _ in range(spec.trials):
            asked = mirror.ask(distributions)
            values = values_of(spec.space.decode_architecture(asked.params))
            state = optuna.trial.TrialState.RUNNING
            template = optuna.trial.create_trial(state=state, params=asked.params, distributions=distributions)
            started = storage.create_new_trial(study_id, template)
            mirror.tell(asked, values)
            storage.set_trial_state_values(started, optuna.trial.TrialState.COMPLETE, values)
        close_storage(storage)


def optunas(folder, spec):
    def objective(trial):
        params = {name: suggest(trial, name, distribution) for name, distribution in distributions.items()}
        return values_of(spec.space.decode_architecture(params))

    distributions = parameter_distributions(spec.space.parameters)
    sampler = optuna.samplers.TPESampler(multivariate=True, group=True, seed=spec.seed)
    directions = [one.direction for one in spec.objectives]
    study = optuna.create_study(storage=f"sqlite:///{folder}/study.db", directions=directions, sampler=sampler)
    study.optimize(objective, n_trials=spec.trials)


def suggest(trial, name, distribution):
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    return trial.suggest_int(name, distribution.low, distribution.high, step=distribution.step)


def trials_per_second(way, trials, seed):
    """Print its SQL statements a trial as well: unlike time, they are the same on every machine."""
    spec = make_spec("study", trials, seed=seed, objectives=OBJECTIVES)
    statements = []
    count = lambda *_: statements.append(1)  # noqa: E731 — an event's listener
    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    found = in_folder(lambda folder: trials / seconds(way, folder, spec))
    sqlalchemy.event.remove(sqlalchemy.Engine, "before_cursor_execute", count)
    print(f"{len(statements) / trials:.1f} SQL statements a trial, ", end="")
    return found


if __name__ == "__main__":
    options = read_options(__doc__, trials=300, rounds=3)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ways = {"starsearch": ours, "public calls alone": floor, "study.optimize": optunas}
    rows = by_turns(
        options.rounds, {name: partial(trials_per_second, way, options.trials) for name, way in ways.items()}
    )
    write(rows, options.out)
    show(summarize(rows, "trials/s"))
    print(f"the least that public calls cost: {ratio(rows, 'public calls alone', 'study.optimize'):.2f}")
    gate("starsearch by study.optimize", ratio(rows, "starsearch", "study.optimize"), 2.5)
