"""Estimate each published network from all others of its family, and write leave_one_out.csv beside this file.

python studies/accuracy/leave_one_out.py
"""

import csv
import time
from pathlib import Path

import numpy as np
from scipy.stats import kendalltau

from starsearch.accuracy.evidence import published_observations
from starsearch.accuracy.posterior import fit_posterior
from starsearch.families.family import FAMILIES
from starsearch.families.text import format_architecture

S4 = "starnet:embed_dim=32,depths=3-3-12-5"
COLUMNS = ("architecture", "source", "published", "estimate", "low", "high", "fitted")


def main():
    start = time.process_time()
    rows = [row for family in FAMILIES for row in leave_out(published_observations(family))]
    with Path(__file__).with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    starnets = [one for one in rows if one["architecture"].startswith("starnet")]
    for title, those in (
        ("StarNets with two branches", [one for one in starnets if one["source"] != "section 4.3"]),
        ("all StarNets", starnets),
        ("DemoNets", [one for one in rows if one not in starnets]),
    ):
        errors = [abs(row["estimate"] - row["published"]) for row in those]
        held = sum(row["low"] <= row["published"] <= row["high"] for row in those)
        print(
            f"{len(those)} {title}: mean absolute error {np.mean(errors):.2f} points, "
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


def leave_out(published):
    fitted = fit_posterior(published)
    for network in dict.fromkeys(one.architecture for one in published):
        own = [one for one in published if one.architecture == network]
        left_out = fit_posterior([one for one in published if one.architecture != network]).estimate([network])[0]
        row = {
            "architecture": format_architecture(network),
            "source": own[0].source,
            "published": round(float(np.mean([one.value for one in own])), 2),
            "estimate": round(left_out.mean, 2),
            "low": round(left_out.low, 2),
            "high": round(left_out.high, 2),
            "fitted": round(fitted.estimate([network])[0].mean, 2),
        }
        print(*row.values(), sep="  ")
        yield row


if __name__ == "__main__":
    main()
