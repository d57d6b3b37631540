"""A recipe search in a process of its own, which says what happens.

python -m tests.tuning.tuning_process FOLDER TRIALS
"""

import sys
from pathlib import Path

from starsearch.api.tuning import tune_recipe

NETWORK = "starnet:embed_dim=8,depths=1-1-1-1"
EPOCHS = 5
SPACE = """\
recipe:
  lr: {low: 3.0e-4, high: 1.0e-2, log: true}
  weight_decay: {low: 0.01, high: 0.3, log: true}
  mixup: {low: 0, high: 0.8, step: 0.1}
  ema_decay: [null, 0.9]
"""


def tune(folder, *, trials, epochs=EPOCHS, space=SPACE, **options):
    """A search over tiny trainings on the digits, in FOLDER/tuned."""
    folder.mkdir(exist_ok=True)
    (folder / "space.yaml").write_text(space)
    return tune_recipe(
        NETWORK,
        space=str(folder / "space.yaml"),
        fidelity={"resolution": 32, "epochs": epochs, "samples": 256, "validation_samples": 200},
        trials=trials,
        name="tuned",
        out=folder,
        **options,
    )


if __name__ == "__main__":
    tune(Path(sys.argv[1]), trials=int(sys.argv[2]), watch=lambda news, _base: print(type(news).__name__, flush=True))
    print("ended", flush=True)
