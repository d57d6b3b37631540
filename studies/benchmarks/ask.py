"""How long a sampler takes to propose when 300 candidates of StarBench are known, beside Optuna's samplers.

    python studies/benchmarks/ask.py                    # a minute; --rounds, --known, --out ask.csv

The first proposal of a study that is resumed, with its model fitted anew, and the next, after one more result. Seconds
by the clock, on as many threads as torch takes.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

from harness import by_turns, read_options, summarize

from starsearch.bench.judge import Judge
from starsearch.bench.making import FIDELITIES
from starsearch.bench.replay import SimulatedEvaluator, replay_spec
from starsearch.progress import follow
from starsearch.search.auto import AutoProposer
from starsearch.search.proposer import Proposer
from starsearch.search.unseen import Unseen

TABLE = Path(__file__).parents[1] / "starbench"
SAMPLERS = ("auto", "gp", "tpe")


def main() -> None:
    options = read_options(__doc__, rounds=3, known=300)
    judge = Judge(TABLE, "proxy")
    evaluate = SimulatedEvaluator(judge)

    def judged(trial):
        return replace(trial, state="complete", readings=follow(evaluate(trial.candidate, seed=0, weights=None)))

    def ask(sampler, seed):
        """Return the seconds of the first proposal and of the next."""
        spec = replay_spec(judge, FIDELITIES["proxy"], sampler, seed=seed, trials=1_000)
        known = [judged(trial) for trial in Unseen(spec, [], seed=seed).sample(options.known)]
        known = [replace(trial, number=number) for number, trial in enumerate(known)]
        proposer, seconds = None, []
        for _ in range(2):
            began = time.perf_counter()
            proposer = proposer or (AutoProposer if sampler == "auto" else Proposer)(spec, known)
            trial = proposer.propose()
            seconds.append(time.perf_counter() - began)
            proposer.adopt(trial)
            proposer.tell(judged(replace(trial, number=options.known)))
        return seconds

    for sampler in SAMPLERS:
        ask(sampler, 0)  # imports
    asked = {}

    def first(sampler):
        def run(seed):
            asked[sampler] = ask(sampler, seed)
            return asked[sampler][0]

        return run

    ways = {}
    for sampler in SAMPLERS:
        ways[f"{sampler}, first"] = first(sampler)
        ways[f"{sampler}, next"] = lambda _seed, sampler=sampler: asked[sampler][1]
    rows = by_turns(options.rounds, ways)
    print(summarize(rows, "seconds").round(3).to_string())
    if options.out:
        rows.to_csv(options.out, index=False)


if __name__ == "__main__":
    main()
