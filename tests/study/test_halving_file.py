import pytest

from starsearch.errors import SpecError
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


def test_without_it_there_is_none(tmp_path):
    assert load(tmp_path, "null").halving is None


def test_rungs_are_part_of_what_makes_trials_comparable_and_eta_is_not(tmp_path):
    def sign(halving):
        return load(tmp_path, halving).describe()

    assert sign("{eta: 2, rungs: [1, 3]}") == sign("{eta: 3, rungs: [1, 3]}")
    assert sign("{rungs: [1, 3]}") != sign("{rungs: [1, 4]}")
    assert sign("{rungs: [1, 3]}") != sign("{rungs: [{epochs: 1, samples: 500}, 3]}")
    assert "halving.rungs" not in sign("null")


@pytest.mark.parametrize(
    ("halving", "epochs", "words"),
    [
        ("{eta: 1}", 9, ["search.halving.eta", "greater than or equal to 2"]),
        ("{etta: 3}", 9, ["unknown key 'etta'", "Did you mean 'eta'?"]),
        ("{eta: 3}", 2, ["a training of 2 epochs has no room for a rung"]),
        ("{rungs: [3, 1]}", 9, ["ascend", "got 3, 1"]),
        ("{rungs: [3, 9]}", 9, ["less than the training's 9 epochs"]),
        ("{rungs: []}", 9, ["at least one entry"]),
        ("{rungs: [{epoch: 1}]}", 9, ["unknown key 'epoch'"]),
        ("3", 9, ["a mapping of keys is needed"]),
    ],
)
def test_a_mistake_is_told(tmp_path, halving, epochs, words):
    with pytest.raises(SpecError) as caught:
        load(tmp_path, halving, epochs)
    for word in ["s.yaml, line 4", *words]:
        assert word in str(caught.value)
