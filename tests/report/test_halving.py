"""What successive halving saved, as `starsearch status` says it."""

import pandas as pd

from starsearch.recipe import Fidelity
from starsearch.report.summary import halving_lines
from starsearch.study.spec import Halving, Rung
from tests.search.studies import make_spec


def test_rungs_of_fewer_images_and_pixels_count_as_what_they_take():
    rungs = (Rung(epochs=1, samples=250, resolution=16), Rung(epochs=3))
    fidelity = Fidelity(epochs=9, samples=1000, resolution=32)
    spec = make_spec(halving=Halving(eta=3, rungs=rungs), fidelity=fidelity)
    rows = [  # number, state, rung, continues
        (0, "PRUNED", 0, None),
        (1, "PRUNED", 0, None),
        (2, "PRUNED", 1, 0),
        (3, "INTERRUPTED", None, 2),
        (4, "COMPLETE", None, 2),
        (5, "FAIL", None, None),
        (6, "COMPLETE", None, None),
    ]
    trials = pd.DataFrame(rows, columns=["number", "state", "rung", "continues"]).assign(anchor=None)
    # A sixteenth of an epoch at the first rung, then two whole ones, then six; one went straight to the end.
    trained = 2 / 16 + 2 + 6 + (1 / 16 + 8)
    assert halving_lines(trials, spec) == [
        "Successive halving (eta 3): 2 reached 1 epoch, 1 of them went on; 1 reached 3 epochs, 1 of them went on.",
        f"Trained {trained:.1f} of the 27 epochs (60%) that training all of them to the end takes.",
    ]
    assert halving_lines(trials, make_spec()) == []
