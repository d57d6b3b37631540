"""Time of `starsearch --help` beside `--help` of an empty typer app, by turns.

python studies/benchmarks/help_time.py --rounds 20
"""

import subprocess
import sys

from harness import by_turns, ratio, read_options, seconds, show, summarize

OURS = "import sys; sys.argv = ['starsearch', '--help']; from starsearch.cli import main; main()"
EMPTY = """
import typer, sys
sys.argv = ["empty", "--help"]
app = typer.Typer()
app.command()(lambda: None)
app()
"""


def start(code):
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    options = read_options(__doc__, out=False, rounds=20)
    ways = {"starsearch": lambda _: seconds(start, OURS), "empty typer app": lambda _: seconds(start, EMPTY)}
    rows = by_turns(options.rounds, ways, warm_up=True)
    show(summarize(rows, "seconds"))
    print(f"ratio: {ratio(rows, 'starsearch', 'empty typer app'):.2f} (gate: at most 1.5)")
