"""`starsearch tune`: the recipe search, a line a trial that has ended, and what is printed at its end."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from starsearch.cli.options import Arch, Data, Epochs, Out, Runner, Seed, StemStride, Storage, pixels, takes_data
from starsearch.cli.show import say
from starsearch.errors import counted
from starsearch.progress import Progress

if TYPE_CHECKING:
    from starsearch.api.tuning import TuneOutcome
    from starsearch.recipe import Recipe
    from starsearch.trial import Trial


@takes_data
def tune(
    architecture: Arch,
    data: Data = "digits",
    space: Annotated[
        str | None,
        typer.Option(
            help="Which fields of the recipe are searched: a file, or shipped (recipe, recipe-short, recipe-pbt)."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="The base recipe, which is the first trial: a file or a shipped one's name (proxy, …). Without it: "
            "the trial's of STUDY:TRIAL, else digits with those, else proxy."
        ),
    ] = None,
    resolution: Annotated[str | None, pixels("Of its images. Without it: the trial's, else 32.", high=1024)] = None,
    epochs: Epochs = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Training images, equally of every class; without it all.")
    ] = None,
    validation_samples: Annotated[int | None, typer.Option(min=1, help="Validation images, likewise.")] = None,
    stem_stride: StemStride = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Recipes with a result that the study should have, the base recipe's among them.")
    ] = 16,
    scheduler: Annotated[
        Literal["asha", "pbt", "none"],
        typer.Option(
            help="asha stops weak trainings early (successive halving); pbt changes recipes while they train "
            "(Population Based Training); none trains all to the end."
        ),
    ] = "asha",
    runner: Runner = None,
    storage: Storage = None,
    name: Annotated[str | None, typer.Option(help="The study's. Without it: tune- and the architecture's.")] = None,
    out: Out = Path("studies"),
    seed: Seed = 0,
) -> None:
    """Search the training recipe for one network, with Ray Tune; the best becomes a file.

    The same command resumes a search that was interrupted, or adds trials. Ctrl-C ends it cleanly.

    Examples:

        starsearch tune starnet_s1

        starsearch tune starnet_s1 --data cifar10/ --epochs 10 --samples 10000 --trials 24

        starsearch tune studies/cifar10:7 --data cifar10/ --scheduler pbt --epochs 20

        starsearch tune starnet_s1 --data cifar10/ --space my-recipes.yaml --runner ray
    """
    from rich.console import Console

    from starsearch.api.tuning import tune_recipe
    from starsearch.cli.live import bar

    console = Console(highlight=False)
    with bar(lambda progress: progress.stage, console=console) as update:

        def watch(news: Progress | Trial, base: Recipe) -> None:
            if isinstance(news, Progress):
                update(news)
            else:
                console.print(_ended(news, base), markup=False, soft_wrap=True)

        outcome = tune_recipe(
            architecture,
            data=data,
            space=space,
            recipe=recipe,
            fidelity={
                "resolution": resolution,
                "epochs": epochs,
                "samples": samples,
                "validation_samples": validation_samples,
                "stem_stride": stem_stride,
            },
            trials=trials,
            scheduler=scheduler,
            runner=runner,
            name=name,
            out=out,
            storage=storage,
            seed=seed,
            watch=watch,
            say=lambda line: console.print(line, markup=False, soft_wrap=True),
        )
    _print_end(outcome, architecture, trials, data)


def _ended(trial: Trial, base: Recipe) -> str:
    from starsearch.tuning.space import describe_changes

    recipe = trial.candidate.anchor or describe_changes(trial.candidate.recipe, base)
    if trial.state == "fail":
        return f"trial {trial.number} failed: {trial.reason}  {recipe}"
    stopped = "" if trial.epochs is None else f", stopped after epoch {trial.epochs}"
    return f"trial {trial.number} top-1 {trial.values['top1_percent']:.2f} %{stopped}, {trial.seconds:.0f} s  {recipe}"


def _print_end(outcome: TuneOutcome, architecture: str, wanted: int, data: str) -> None:
    """What came out and what to do next: a training as the search did it."""
    from starsearch.api.study import load_study
    from starsearch.cli.studies import print_front

    print_front(load_study(outcome.folder).view)
    progress = f"{outcome.finished} of {wanted} trials"
    if outcome.finished < wanted:
        say(f"Interrupted: {progress}. Nothing finished is lost; the same command resumes.")
    else:
        say(f"Done: {progress}.")
    best, base, judged = outcome.best, outcome.base, outcome.fidelity
    if best is not None:
        top1 = best.values["top1_percent"]
        over = f", {top1 - base.values['top1_percent']:+.2f} over the base recipe" if base else ""
        say(f"Best:    trial {best.number}, top-1 {top1:.2f} %{over}: {outcome.changes}")
        say("         One training each: see studies/benchmarks/recipe_seeds.py for several seeds.")
    say("Written: " + ", ".join(str(path) for path in (outcome.recipe_file, *outcome.files) if path))
    if best is not None:
        assert judged.epochs is not None  # the outcome says it
        how = f"--resolution {judged.resolution} --stem-stride {judged.stem_stride} --crop-pct {judged.crop_pct:g}"
        say(
            f"Next:    starsearch train {architecture} --recipe {outcome.recipe_file} --data {shlex.quote(data)} {how}",
            f"         That is {counted(judged.epochs, 'epoch')}, as each trial was trained; --epochs N trains longer.",
        )
