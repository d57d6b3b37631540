"""Time of `starsearch --help` beside `--help` of an empty typer app, interleaved, medians.

python studies/benchmarks/help_time.py --rounds 20
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from statistics import median

OURS = "import sys; sys.argv = ['starsearch', '--help']; from starsearch.cli import main; main()"
EMPTY = """
import sys
import typer
sys.argv = ["empty", "--help"]
app = typer.Typer()
@app.command()
def nothing() -> None:
    pass
app()
"""


def seconds(code: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    rounds = parser.parse_args().rounds
    seconds(OURS), seconds(EMPTY)  # byte code and disk caches
    pairs = [(seconds(OURS), seconds(EMPTY)) for _ in range(rounds)]
    ours, empty = (median(column) for column in zip(*pairs, strict=True))
    ratio = median(a / b for a, b in pairs)
    print(f"starsearch --help  {1000 * ours:6.0f} ms")
    print(f"empty typer app    {1000 * empty:6.0f} ms")
    print(f"ratio              {ratio:6.2f}  (median of {rounds} pairs; gate 1.5)")


if __name__ == "__main__":
    main()
