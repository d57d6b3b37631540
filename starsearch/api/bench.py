"""StarBench: make the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from starsearch.bench.making import FIDELITIES, Made, Slice, latency_slice, make_slice, training_slice
from starsearch.bench.networks import bench_networks
from starsearch.bench.table import write_table
from starsearch.errors import DataError
from starsearch.recipe import Fidelity


def make_bench(
    out: Path,
    rows: Literal["proxy", "long", "latency"] | Fidelity = "proxy",
    *,
    data: str | None = None,
    networks: int = 160,
    threads: int | None = None,
    time_limit_s: float | None = None,
    merge: Sequence[Path] = (),
    watch: Callable[[Made], None] = lambda _made: None,
) -> Path:
    """Add rows of one kind to the table in a folder until all are there; return the table's path.

    What was made before, here or in the tables of `merge`, is not made again. Each row is written as it ends, so that
    an interrupt or a kill costs the running one at most; the compressed table is written at the end, also of an
    interrupted call.

    Args:
        out: the table's folder.
        rows: trainings at the fidelity "proxy" or "long" or at one of one's own, or "latency", which is measured here,
            on a machine that does nothing else.
        data: what is trained on, as `starsearch run` takes it: CIFAR-10.
        networks: how many there are to be.
        threads: of a training on the processor; None is torch's own number.
        time_limit_s: seconds after which it stops.
        merge: tables made elsewhere, or their folders.
        watch: called before the first row and after each.

    Raises:
        DataError: trainings without data.
        SpecError: a table to be merged is not there.
        StudyError: rows do not belong together, or cannot be written.
    """
    deadline = float("inf") if time_limit_s is None else time.monotonic() + time_limit_s
    if merge:
        write_table(out, merge)
    if rows == "latency":
        wanted = latency_slice(networks=networks)
    else:
        wanted = _trainings(FIDELITIES[rows] if isinstance(rows, str) else rows, data, networks, threads)
    try:
        for made in make_slice(wanted, out, names=bench_networks(networks), deadline=deadline):
            watch(made)
    finally:
        table = write_table(out)
    return table


def _trainings(fidelity: Fidelity, data: str | None, networks: int, threads: int | None) -> Slice:
    if data is None:
        raise DataError("StarBench's networks are trained on CIFAR-10: give its folder with --data.")
    import torch

    from starsearch.api.run import check_samples
    from starsearch.data import open_data

    if threads is not None:
        torch.set_num_threads(threads)
    dataset = open_data(data)
    check_samples([fidelity.samples], fidelity.validation_samples, dataset)
    return training_slice(fidelity, dataset, networks=networks)
