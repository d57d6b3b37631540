"""Search on the embedded digits from Python, watch the trials, export the front's knee.

python examples/search.py [--trials 8] [--out studies]
"""

import argparse

import starsearch
from starsearch.search.events import TrialEnded


def watch(event):
    """Print a line for each trial."""
    if isinstance(event, TrialEnded) and event.trial.has_result:
        values = event.trial.values
        print(f"trial {event.trial.number}: {values['top1_percent']:.1f} %, {values['latency_ms']:.2f} ms")


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--trials", type=int, default=8)
parser.add_argument("--out", default="studies")
options = parser.parse_args()

study = starsearch.run("starnet", trials=options.trials, out=options.out, watch=watch)
front = study.front()
print(front[["number", "architecture_text", "top1_percent", "latency_ms"]].to_string(index=False))
print("The knee:", study.best()["architecture_text"])
exported = study.export(f"{options.out}/best", formats=("timm", "onnx"))
print("Written:", *(path.name for path in exported.files))
