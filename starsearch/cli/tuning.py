"""`starsearch tune`: the recipe search with its live view, and what is printed at its end."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from starsearch.cli.options import Classes, Orientation, ValidationFraction, with_options

if TYPE_CHECKING:
    from starsearch.api.tuning import TuneOutcome


def tune(
    architecture: Annotated[
        str,
        typer.Argument(
            metavar="ARCH",
            help="A name (starnet_s1), one line (starnet:embed_dim=16), a YAML file, or a study's trial (STUDY:TRIAL).",
        ),
    ],
    data: Annotated[
        str,
        typer.Option(
            help="A folder (train/, validation/ or val/), a folder with train.tar and validation.tar, or a "
            "timm data-set name. Without it: scikit-learn's digits, embedded."
        ),
    ] = "digits",
    validation_fraction: ValidationFraction = None,
    classes: Classes = None,
    orientation: Orientation = None,
    space: Annotated[
        str | None,
        typer.Option(
            help="Which fields of the recipe are searched: a file, or a shipped one's name (recipe, recipe-pbt)."
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            help="The base recipe, which is the first trial: a file or a shipped one's name (proxy, …). Without it: "
            "the trial's of STUDY:TRIAL, else digits with those, else proxy."
        ),
    ] = None,
    resolution: Annotated[
        int | None,
        typer.Option(min=8, max=1024, help="Of training and validation, in pixels. Without it: the trial's, else 32."),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, max=10_000, help="Of a whole training; without it the base recipe's.")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Training images, equally of every class; without it all.")
    ] = None,
    validation_samples: Annotated[int | None, typer.Option(min=1, help="Validation images, likewise.")] = None,
    stem_stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2,
            help="Of the network while it is judged; 1 for small images. Without it: the trial's, else 2.",
        ),
    ] = None,
    trials: Annotated[
        int, typer.Option(min=1, help="Recipes with a result that the study shall have, the base recipe's among them.")
    ] = 16,
    scheduler: Annotated[
        Literal["asha", "pbt", "none"],
        typer.Option(
            help="asha stops weak trainings early (successive halving); pbt changes recipes while they train "
            "(Population Based Training); none trains all to the end."
        ),
    ] = "asha",
    runner: Annotated[
        str | None,
        typer.Option(
            help="Where trials run: a runner file, or a shipped one's name (local, ray). Without it: the Ray cluster "
            "at RAY_ADDRESS where that is set, else Ray on this machine, a core a trial."
        ),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Optuna storage URL. Without it: study.db in the study's folder.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Of the study. Without it: tune- and the architecture's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder in which study folders are made.")] = Path("studies"),
    seed: Annotated[int, typer.Option(min=0, help="Of proposals, trainings and subsets.")] = 0,
) -> None:
    """Search the training recipe for one network, with Ray Tune; the best becomes a file.

    The same command goes on with a search that was interrupted or shall have more trials. Ctrl-C ends it cleanly.

    Examples:

        starsearch tune starnet_s1

        starsearch tune starnet_s1 --data cifar10/ --epochs 10 --samples 10000 --trials 24

        starsearch tune studies/cifar10:7 --data cifar10/ --scheduler pbt --epochs 20

        starsearch tune starnet_s1 --data cifar10/ --space my-recipes.yaml --runner ray
    """
    from starsearch.api.tuning import tune_recipe
    from starsearch.cli.tuning_view import TuningView

    data = with_options(data, validation_fraction=validation_fraction, classes=classes, orientation=orientation)
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
        say=typer.echo,
        view=lambda spec, folder: TuningView(
            spec.recipe,
            title=f"{spec.name} in {folder}",
            epochs=spec.num_epochs,
            is_population=scheduler == "pbt",
        ),
    )
    _print_end(outcome, data=data)


def _print_end(outcome: TuneOutcome, *, data: str) -> None:
    """What came out and what to do next: a training as the search did it."""
    from rich.console import Console

    from starsearch import api
    from starsearch.cli.studies import print_front

    print_front(api.load_study(outcome.folder).view)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    progress = f"{outcome.ended.finished} of {outcome.ended.wanted} trials"
    if outcome.ended.why == "interrupted":
        console.print(f"Interrupted: {progress}. Nothing finished is lost; the same command goes on.")
    else:
        console.print(f"Done: {progress}.")
    best, base = outcome.best, outcome.base
    if best is not None:
        over = f", {best.top1_percent - base.top1_percent:+.2f} over the base recipe" if base else ""
        console.print(f"Best:    trial {best.trial}, top-1 {best.top1_percent:.2f} %{over}: {best.changes}")
        console.print("         One training each: see studies/benchmarks/recipe_seeds.py for several seeds.")
    console.print("Written: " + ", ".join(str(path) for path in (outcome.recipe_file, *outcome.files) if path))
    if best is not None:
        judged = outcome.fidelity
        how = f"--resolution {judged.resolution} --stem-stride {judged.stem_stride} --crop-pct {judged.crop_pct:g}"
        console.print(
            f"Next:    starsearch train {outcome.architecture} --recipe {outcome.recipe_file} "
            f"--data {shlex.quote(data)} {how}"
        )
        console.print(f"         That is {judged.epochs} epochs, as each trial was trained; --epochs N trains longer.")
