import pytest

from starsearch.study.spec import Halving, Rung
from starsearch.study.study_file import load_study

STUDY = """
space: starnet
fidelities: [{{name: proxy, epochs: {epochs}, recipe: proxy}}]
search: {{trials: 9, halving: {halving}}}
"""


def load(tmp_path, halving, epochs=9, more=""):
    (tmp_path / "s.yaml").write_text(STUDY.format(halving=halving, epochs=epochs) + more)
    return load_study(str(tmp_path / "s.yaml"))


@pytest.mark.parametrize(
    ("halving", "epochs", "expected"),
    [
        ("null", 9, None),
        ("{eta: 3}", 9, Halving(eta=3, rungs=(Rung(epochs=1), Rung(epochs=3)))),
        ("{}", 27, Halving(eta=3, rungs=(Rung(epochs=1), Rung(epochs=3), Rung(epochs=9)))),
        ("{eta: 4}", 20, Halving(eta=4, rungs=(Rung(epochs=1), Rung(epochs=5)))),
        ("{eta: 2, rungs: [2, 5]}", 9, Halving(eta=2, rungs=(Rung(epochs=2), Rung(epochs=5)))),
        (
            "{rungs: [{epochs: 1, resolution: 24, samples: 500}, 4]}",
            9,
            Halving(eta=3, rungs=(Rung(epochs=1, resolution=24, samples=500), Rung(epochs=4))),
        ),
    ],
)
def test_rungs_are_listed_or_follow_from_eta(tmp_path, halving, epochs, expected):
    assert load(tmp_path, halving, epochs).halving == expected


def test_rungs_are_part_of_what_makes_trials_comparable_and_eta_is_not(tmp_path):
    def sign(halving):
        return load(tmp_path, halving).describe()

    assert sign("{eta: 2, rungs: [1, 3]}") == sign("{eta: 3, rungs: [1, 3]}")
    assert sign("{rungs: [1, 3]}") != sign("{rungs: [1, 4]}")
    assert sign("{rungs: [1, 3]}") != sign("{rungs: [{epochs: 1, samples: 500}, 3]}")
    assert "halving.rungs" not in sign("null")
