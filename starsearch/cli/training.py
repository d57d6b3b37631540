"""`starsearch train`: its options, its view, and what is printed at its end."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from starsearch.cli.options import Arch, Epochs, Seed, StemStride, Weights, Workers, pixels, takes_data
from starsearch.cli.show import print_table, say, table
from starsearch.errors import TrainingStoppedError, counted
from starsearch.progress import Progress
from starsearch.signals import asked_to_stop

if TYPE_CHECKING:
    from rich.console import Console

    from starsearch.api.training import Trained
    from starsearch.api.training_job import TrainingJob
    from starsearch.training.transfer import LayerStart


@takes_data
def train(
    architecture: Arch,
    data: Annotated[str, typer.Option(help="What is trained on, as for starsearch run.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="A recipe file, or a shipped one's name. Without it: the trial's, else starnet-imagenet."),
    ] = None,
    epochs: Epochs = None,
    batch_size: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=65_536,
            help="Images a step over all ranks, in place of the recipe's; lr and min_lr are scaled with it (the linear "
            "rule of Goyal et al. 2017), warmup_lr is not.",
        ),
    ] = None,
    accumulate: Annotated[
        int, typer.Option(min=1, help="Go through each batch in so many parts; the batch of a step stays the same.")
    ] = 1,
    precision: Annotated[
        Literal["float32", "bfloat16", "float16"],
        typer.Option(help="The forward pass's, by autocast; weights stay in float32."),
    ] = "float32",
    compile_: Annotated[
        bool | None,
        typer.Option(
            "--compile/--no-compile",
            help="Let torch.compile make the forward pass if the rest of the training is predicted to be long enough "
            "for it; between several GPUs from the first step on. Without either: on one GPU alone.",
        ),
    ] = None,
    sync_bn: Annotated[
        bool, typer.Option("--sync-bn", help="Batch norms take their statistics over all ranks (GPUs only).")
    ] = False,
    workers: Workers = None,
    resolution: Annotated[str | None, pixels("Of its images. Without it: the trial's, else 224.", high=1024)] = None,
    crop_pct: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1.0,
            help="Share of the side that the centre crop of validation keeps. Without it: the trial's, else 0.875, "
            "timm's for ImageNet; the whole image below 128 px.",
        ),
    ] = None,
    stem_stride: StemStride = None,
    seed: Seed = 0,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the training's files. Without it: trainings/NAME.")
    ] = None,
    weights: Weights = None,
    keep_every: Annotated[
        float, typer.Option(min=0, help="Seconds after which a training is kept within an epoch, too.")
    ] = 120.0,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="Look at the data first: broken images, decoding speed.")
    ] = True,
    runner: Annotated[
        str | None,
        typer.Option(help="A Ray runner file: train on its cluster with Ray Train, its `workers` ranks in number."),
    ] = None,
) -> None:
    """Train a network in full, on one device or, under torchrun or with --runner, on many.

    The same command resumes a training that was cut off, from the last state in its folder. Ctrl-C ends it cleanly.

    Examples:

        starsearch train starnet_s1 --data imagenet/ --precision bfloat16

        starsearch train studies/starnet:7 --data imagenet/ --recipe starnet-imagenet-long --batch-size 1024

        starsearch train starnet_s1 --data photos/ --weights starnet_s4.pth.tar --epochs 30

        torchrun --nproc_per_node 8 -m starsearch train starnet_s4 --data imagenet/ --precision bfloat16 --compile
    """
    from starsearch.api.training import run_training
    from starsearch.api.training_job import plan_training

    job = plan_training(
        architecture,
        data=data,
        recipe=recipe,
        epochs=epochs,
        batch_size=batch_size,
        resolution=resolution,
        crop_pct=crop_pct,
        stem_stride=stem_stride,
        seed=seed,
        out=out,
        weights=weights,
        keep_every_s=keep_every,
        hardware={
            "precision": precision,
            "compile": compile_,
            "accumulate": accumulate,
            "sync_batch_norm": sync_bn,
            "workers": workers,
        },
    )
    is_first = os.environ.get("RANK", "0") == "0"
    if is_first:
        say(*job.notes)
        if check and runner is None:
            _look_at_data(job)
    try:
        with (
            asked_to_stop() as stop,
            training_view(f"{architecture} in {job.folder}", job=job, shows=is_first) as watch,
        ):
            if runner is None:
                trained = run_training(job, watch=watch, is_asked_to_stop=stop.is_set, show_start=_print_start)
            else:
                from starsearch.api.ray_training import run_training_on_ray

                trained = run_training_on_ray(job, runner, watch=watch, is_asked_to_stop=stop.is_set)
    except TrainingStoppedError as stopped:
        if is_first:
            say(f"{stopped} Nothing is lost; the same command resumes it.")
        return
    except KeyboardInterrupt:
        if runner is None:
            raise
        say("Interrupted. The last state the ranks have written is kept; the same command resumes it.")
        return
    if trained is not None:
        _print_end(trained, data=job.data)


def _print_start(starts: Sequence[LayerStart]) -> None:
    """Say layer by layer how a training begins with given weights."""

    def shape(value: tuple[int, ...] | None) -> str:
        return "–" if value is None else "×".join(map(str, value)).removesuffix("×1×1")

    columns: dict[str, Any] = {
        "layers": "{layers}",
        "weights given": lambda row: shape(row["there"]),
        "here": lambda row: shape(row["here"]),
        "begins": "{how}",
    }
    print_table(table(map(asdict, starts), columns))


def _look_at_data(job: TrainingJob) -> None:
    """Say what is wrong with the data before hours are spent."""
    from starsearch.api.training import check_training_data

    found = check_training_data(job, ranks=int(os.environ.get("WORLD_SIZE", "1")))
    if found is not None:
        speed = f"{found.workers_images_per_second:,.0f} images/s decoded by {counted(found.workers, 'worker')}"
        say(f"Data: {found.classes} {found.train.num_images:,} training images; {speed}.")
        say(*(f"warning: {warning}" for warning in (*found.errors, *found.warnings)))


@contextmanager
def training_view(
    title: str, *, job: TrainingJob, shows: bool = True, console: Console | None = None
) -> Iterator[Callable[[Progress], None]]:
    """Show a training: a bar with epoch, images a second and time left, and a line an epoch.

    Of several ranks only the first one `shows` it, on stdout if no `console` is given.
    """
    from rich.console import Console

    from starsearch.cli.live import bar

    console = console or Console(highlight=False, quiet=not shows)
    epochs = job.recipe.epochs + job.recipe.cooldown_epochs

    def describe(progress: Progress) -> str:
        speed = progress.values.get("images_per_second")
        doing = progress.stage if speed is None else f"{progress.stage}, {speed:,.0f} images/s"
        epoch = progress.epoch or int(progress.values.get("in_epoch", 0))
        return f"epoch {epoch} of {epochs}: {doing}" if epoch else doing

    def line(text: str) -> None:
        console.print(text, markup=False, highlight=False, soft_wrap=True)

    line(title)
    with bar(describe, console=console) as update:

        def watch(progress: Progress) -> None:
            update(progress)
            if progress.epoch is not None:
                values = progress.values
                line(
                    f"epoch {progress.epoch} of {epochs}: top-1 {values['top1_percent']:.2f} %"
                    f"{_top5(values['top5_percent'])}, loss {values['train_loss']:.4f}, "
                    f"lr {values['learning_rate']:.3g}, {values['images_per_second']:,.0f} images/s"
                )

        yield watch


def _top5(percent: float) -> str:
    """Return the top-5 accuracy to be added to the top-1; nothing where it says nothing, as with two classes."""
    return "" if percent == 100 else f", top-5 {percent:.2f} %"


def _print_end(trained: Trained, *, data: str) -> None:
    command = shlex.join(["starsearch", "export", str(trained.folder), "--data", data])
    say(
        f"Done: {counted(trained.epochs, 'epoch')}, top-1 {trained.top1_percent:.2f} %"
        f"{_top5(trained.top5_percent)}; best: epoch {trained.best_epoch}, top-1 "
        f"{trained.best_top1_percent:.2f} ± {trained.best_top1_spread:.2f} %{_top5(trained.best_top5_percent)}."
    )
    if trained.peak_gpu_gb is not None:
        say(f"Memory: at most {trained.peak_gpu_gb:.1f} GB of the GPU.")
    if trained.unreadable_images:
        say(f"{len(trained.unreadable_images)} images could not be read; their names are in summary.json.")
    say(
        f"Written: {trained.folder} (recipe.yaml, log.csv, tensorboard/, last.pt, best.safetensors, timm/, "
        "summary.json)",
        f"Load it: {trained.load}",
        f"Export it: {command} --format onnx,onnx-int8 --out best   (or timm, coreml)",
    )
