"""StarBench: make the table, replay searches on it, and write it for other tools."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from starsearch.api.run import check_samples
from starsearch.bench.judge import Judge
from starsearch.bench.making import FIDELITIES, Made, latency_slice, make_slice, signal_slice, training_slice
from starsearch.bench.networks import bench_networks, bench_trainings, repeated_trainings
from starsearch.bench.replay import BASELINE, replay_all
from starsearch.bench.table import write_table
from starsearch.data import open_data
from starsearch.errors import DataError, SpecError, StudyError, did_you_mean
from starsearch.files import written_whole
from starsearch.recipe import Fidelity
from starsearch.samplers import SAMPLERS


def make_bench(
    out: Path,
    rows: Literal["quick", "proxy", "medium", "long", "latency", "signals"] | Fidelity | None = "proxy",
    *,
    data: str | None = None,
    networks: int = 160,
    threads: int | None = None,
    time_limit_s: float | None = None,
    merge: Sequence[Path] = (),
    watch: Callable[[Made], None] = lambda _made: None,
) -> Path:
    """Add rows of one kind to the table in a folder until all are there; return the table's path.

    `rows` may be a fidelity of one's own; "signals" are those of untrained networks (`starsearch.accuracy.signals`);
    with None the tables of `merge` are joined to the folder's, and nothing is made.
    What was made before, here or in the tables of `merge`, is not made again. Each row is written as it ends, so that
    an interrupt or a kill costs the running one at most; the compressed table is written at the end, also of an
    interrupted call. `watch` is called before the first row and after each.
    """
    deadline = float("inf") if time_limit_s is None else time.monotonic() + time_limit_s
    if rows is None:
        return write_table(out, merge)
    if data is None and rows != "latency":
        raise DataError("StarBench's networks are trained on CIFAR-10: give its folder with --data.")
    if merge:
        write_table(out, merge)
    if rows == "latency":
        wanted = latency_slice(out, networks=networks)
    else:
        assert data is not None
        import torch

        torch.set_num_threads(threads or torch.get_num_threads())
        dataset = open_data(data)
        if rows == "signals":
            wanted = signal_slice(dataset, networks=networks)
        else:
            fidelity = FIDELITIES[rows] if isinstance(rows, str) else rows
            check_samples([fidelity.samples], fidelity.validation_samples, dataset)
            trainings = repeated_trainings() if rows == "medium" else bench_trainings(networks)
            wanted = training_slice(fidelity, dataset, wanted=trainings)
    try:
        for made in make_slice(wanted, out, names=bench_networks(networks), deadline=deadline):
            watch(made)
    finally:
        table = write_table(out)
    return table


def run_bench(
    table: Path,
    samplers: Sequence[str],
    *,
    fidelity: Literal["proxy", "long"] = "proxy",
    seeds: int = 20,
    trials: int = 200,
    workers: int = 1,
    csv: Path | None = None,
    watch: Callable[[int, int], None] = lambda _ended, _all: None,
) -> tuple[Judge, pd.DataFrame]:
    """Replay the search by each sampler and seed on the table in a folder until it has come as far as NSGA-II.

    Each replay's outcome is written to `csv` as it ends; what is there already is not repeated.

    Returns:
        What was known of the networks, and a row for each replay (`starsearch.bench.replay.outcome`).
    """
    most = dict(_sampler_and_trials(one, trials) for one in samplers)
    if not samplers:
        raise SpecError(f"Name at least one sampler to compare with {BASELINE}.")
    if len(most) < len(samplers):
        raise SpecError(f"A sampler is named twice: {', '.join(samplers)}. Name each once.")
    judge = Judge(table, fidelity)
    made_with = {"fidelity": fidelity, "networks": len(judge.networks), "table": judge.digest}
    found: list[dict[str, Any]] = []
    if csv is not None and csv.is_file():
        try:
            found = [dict(row) for _, row in pd.read_csv(csv).iterrows()]
        except (OSError, ValueError) as error:
            raise StudyError(f"{csv} cannot be read as outcomes of replays: {error}. Give another --csv.") from error
        for one in found:
            if any(one.get(name) != value for name, value in made_with.items()):
                raise StudyError(
                    f"{csv} was not written with this table as it is now and this fidelity ({len(judge.networks)} "
                    f"networks at {fidelity}). Give another --csv."
                )
            if one["sampler"] == BASELINE and one["trials"] != trials:
                raise StudyError(
                    f"The goals in {csv} are {BASELINE}'s after {one['trials']} candidates, not after {trials}. Give "
                    "another --csv."
                )
        # What gave up after fewer or more candidates than it has now, or came there after more, is repeated.
        most_now = {one["sampler"]: most.get(one["sampler"], one["trials"]) for one in found}
        found = [
            one
            for one in found
            if one["evaluations"] <= most_now[one["sampler"]]
            or (math.isinf(one["evaluations"]) and one["trials"] == most_now[one["sampler"]])
        ]
    wanted = [(name, seed) for name in {BASELINE: trials} | most for seed in range(seeds)]
    ended = sum((one["sampler"], one["seed"]) in wanted for one in found)
    for one in replay_all(judge, FIDELITIES[fidelity], most, seeds=seeds, trials=trials, workers=workers, known=found):
        found.append(made_with | one)
        ended += 1
        if csv is not None:
            with written_whole(csv) as partial:
                pd.DataFrame(found).to_csv(partial, index=False)
        watch(ended, len(wanted))
    return judge, pd.DataFrame([one for one in found if (one["sampler"], one["seed"]) in wanted])


def _sampler_and_trials(text: str, trials: int) -> tuple[str, int]:
    name, _, most = text.partition(":")
    known = [*SAMPLERS, *(f"{name}+halving" for name in SAMPLERS)]
    if name not in known:
        raise SpecError(
            f"Unknown sampler {name!r}.{did_you_mean(name, known)} Known: {', '.join(SAMPLERS)}, each also with "
            "+halving behind it."
        )
    if most and (not most.isdecimal() or int(most) < 1):
        raise SpecError(f"Behind a sampler's colon stands after how many candidates it gives up; got {text!r}.")
    if most and name == BASELINE:
        raise SpecError(f"{BASELINE} sets the goal after --trials candidates, {trials} here; leave :{most} out.")
    return name, int(most or trials)
