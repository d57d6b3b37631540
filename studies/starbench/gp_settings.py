"""GPSampler of Optuna replayed on StarBench as `starsearch bench run --samplers gp:120` does, at its other settings.

    python studies/starbench/gp_settings.py --settings startup-4,deterministic,deterministic-startup-4

Each replay's outcome is written to the CSV as it ends (a minute of a core each); the same command goes on. The goals
are those of replays.csv. Ends with the medians over the seeds, and their 90 % intervals.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from starsearch import samplers
from starsearch.bench.judge import Judge
from starsearch.bench.making import FIDELITIES
from starsearch.bench.replay import BASELINE, outcome, replay, summarise

HERE = Path(__file__).parent
DEFAULT = samplers.SAMPLERS["gp"]
SETTINGS = {
    "startup-4": {"n_startup_trials": 4},  # the anchors are four; by default ten trials come first
    "deterministic": {"deterministic_objective": True},
    "deterministic-startup-4": {"deterministic_objective": True, "n_startup_trials": 4},
}
MOST = 120


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--settings", default=",".join(SETTINGS), help="names separated by commas")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--csv", type=Path, default=HERE / "gp_settings.csv")
    options = parser.parse_args()
    judge, known = Judge(HERE, "proxy"), pd.read_csv(HERE / "replays.csv")
    goals = known[known["sampler"] == BASELINE].set_index("seed")["goal"]
    found = pd.read_csv(options.csv).to_dict("records") if options.csv.is_file() else []
    for seed in range(options.seeds):
        for setting in options.settings.split(","):
            if (setting, seed) in {(one["sampler"], one["seed"]) for one in found}:
                continue
            # Bound now: the loop's name would be another one by the time it is called.
            samplers.SAMPLERS["gp"] = replace(DEFAULT, options=lambda _, of=SETTINGS[setting]: of)
            rows = replay(judge, FIDELITIES["proxy"], "gp", seed=seed, trials=MOST, goal=goals[seed])
            found.append(outcome(rows, trials=MOST, goal=goals[seed]) | {"sampler": setting})
            pd.DataFrame(found).to_csv(options.csv, index=False)
    summary = summarise(pd.DataFrame(found))
    print(summary[["sampler", "replays", "reached", "evaluations", "evaluations_low", "evaluations_high"]].to_string())


if __name__ == "__main__":
    main()
