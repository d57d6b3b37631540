"""Estimate each published network from all others, and write leave_one_out.csv beside this file.

python studies/accuracy/leave_one_out.py
"""

import csv
import time
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from starsearch.accuracy.evidence import published_observations
from starsearch.accuracy.posterior import fit_posterior
from starsearch.families.text import format_architecture

S4 = "starnet:embed_dim=32,depths=3-3-12-5"
COLUMNS = ("architecture", "source", "published", "estimate", "low", "high", "fitted")


def main():
    start = time.process_time()
    published = published_observations()
    fitted = fit_posterior(published)
    rows = []
    for network in dict.fromkeys(one.architecture for one in published):
        own = [one for one in published if one.architecture == network]
        left_out = fit_posterior([one for one in published if one.architecture != network]).estimate([network])[0]
        rows.append(
            {
                "architecture": format_architecture(network),
                "source": own[0].source,
                "published": round(float(np.mean([one.value for one in own])), 2),
                "estimate": round(left_out.mean, 2),
                "low": round(left_out.low, 2),
                "high": round(left_out.high, 2),
                "fitted": round(fitted.estimate([network])[0].mean, 2),
            }
        )
        print(*rows[-1].values(), sep="  ")
    with Path(__file__).with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    for title, those in (("all", rows), ("with two branches", [one for one in rows if one["source"] != "section 4.3"])):
        errors = [abs(row["estimate"] - row["published"]) for row in those]
        held = sum(row["low"] <= row["published"] <= row["high"] for row in those)
        print(
            f"{len(those)} networks ({title}): mean absolute error {np.mean(errors):.2f} points, "
            f"median {np.median(errors):.2f}; the 90 % intervals hold {held}."
        )
    for title in ("table 7", "table 9"):
        those = [row for row in rows if row["source"] == title or row["architecture"] == S4]
        orders = [
            kendalltau([row["published"] for row in those], [row[name] for row in those]).statistic
            for name in ("fitted", "estimate")
        ]
        print(
            f"Kendall τ of {title} with S4, {len(those)} networks: left in {orders[0]:.2f}, left out {orders[1]:.2f}."
        )
    print(f"{time.process_time() - start:.0f} s of CPU.")


if __name__ == "__main__":
    main()
