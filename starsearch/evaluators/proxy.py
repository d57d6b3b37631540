"""`ProxyEvaluator`: trains a candidate at a fidelity, then measures the deployed network's latency and cost."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from starsearch.architecture import Architecture, architecture_hash, count_macs, count_params, lower
from starsearch.candidate import Candidate
from starsearch.data import DataSet
from starsearch.errors import StudyError
from starsearch.evaluators.evaluator import Evaluation
from starsearch.measurement import Measurement, Progress
from starsearch.recipe import Fidelity

if TYPE_CHECKING:
    from starsearch.latency import Reference
    from starsearch.models import StarNet
    from starsearch.training import TrainingResult

T = TypeVar("T")
# Of an evaluation's time, for the bar; latency takes a second or two whatever the training takes.
_TRAINING_SHARE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvaluator:
    """Judges a candidate by training it and, with a `reference`, by timing the network it would be deployed as.

    Attributes:
        data: what is trained and validated on.
        fidelity: how much is spent.
        resolution: at which the network is deployed, counted and timed, in pixels.
        reference: the latency scale of this machine; None leaves latency out.
    """

    data: DataSet
    fidelity: Fidelity
    resolution: int = 224
    reference: Reference | None = None

    def __call__(self, candidate: Candidate, *, seed: int, weights: Path | None) -> Evaluation:
        """Yield progress; return top-1, top-5, images per second, latency, MACs and parameters.

        MACs and parameters are those of the published convention (1000 classes), so that they compare with
        papers; latency is that of the network with the data's own classes.

        Raises:
            EvaluationError: the training diverged or took too long, or the network cannot be timed.
        """
        from starsearch.training import train

        training = train(
            candidate.architecture, data=self.data, recipe=candidate.recipe, fidelity=self.fidelity, seed=seed
        )
        result = yield from _scaled(_without_measuring(training), 0.0, _TRAINING_SHARE)
        measured = [*_accuracy(result), *count_cost(candidate.architecture, self.resolution)]
        if weights is not None:
            save_weights(result.model, weights)
        if self.reference is not None:
            latency = yield from _scaled(self._measure_latency(result.model, seed), _TRAINING_SHARE, 1.0)
            measured.append(latency)
        return tuple(measured)

    def _measure_latency(self, model: StarNet, seed: int) -> Generator[Progress, None, Measurement]:
        import numpy as np

        from starsearch.export import build_onnx
        from starsearch.export.weights import state_dict_arrays
        from starsearch.latency import computing, measure_latency

        assert self.reference is not None
        with computing():
            # As it is deployed: at its own resolution, with the published stem.
            layers = lower(model.architecture, resolution=self.resolution, num_classes=model.num_classes)
            graph = build_onnx(layers, state_dict_arrays(model))
        # Each network its own order of pairs, the same one when it is measured again.
        rng = np.random.default_rng([seed, int(architecture_hash(model.architecture), 16)])
        return (yield from measure_latency(graph, reference=self.reference, rng=rng))


def count_cost(architecture: Architecture, resolution: int) -> tuple[Measurement, Measurement]:
    """MACs (conv + linear) and parameters in the published convention: 1000 classes."""
    return (
        Measurement(name="macs", value=count_macs(architecture, resolution=resolution)),
        Measurement(name="num_params", value=count_params(architecture)),
    )


def save_weights(model: StarNet, path: Path) -> None:
    """Write the state dict as safetensors, with what is needed to build the module again.

    Raises:
        StudyError: the file cannot be written.
    """
    from safetensors.torch import save

    from starsearch.architecture import format_architecture

    metadata = {
        "format": "pt",
        "architecture": format_architecture(model.architecture),
        "num_classes": str(model.num_classes),
        "in_chans": str(model.in_chans),
        "stem_stride": str(model.stem_stride),
    }
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(save(tensors, metadata=metadata))  # not save_file: its errors on a full disk are no OSError
        partial.replace(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise StudyError(
            f"The trained weights {path.name} cannot be written: {error.strerror}. The candidate is not at fault and "
            "runs again: make room, or set search.keep_weights to none, and run the same command."
        ) from error


def load_weights(path: Path) -> StarNet:
    """The module that `save_weights` wrote, in eval mode.

    Raises:
        OSError: the file is not there.
    """
    from safetensors import safe_open

    from starsearch.architecture import parse_architecture
    from starsearch.models import build_model

    with safe_open(path, framework="pt") as file:
        about = file.metadata()
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 — not a mapping
    model = build_model(
        parse_architecture(about["architecture"]),
        num_classes=int(about["num_classes"]),
        in_chans=int(about["in_chans"]),
        stem_stride=int(about["stem_stride"]),
    )
    model.load_state_dict(state)
    return model.eval()


def _accuracy(result: TrainingResult) -> Sequence[Measurement]:
    return (
        Measurement(name="top1_percent", value=result.top1_percent),
        Measurement(name="top5_percent", value=result.top5_percent),
        Measurement(name="images_per_second", value=result.images_per_second),
    )


def _without_measuring(steps: Generator[Progress, None, T]) -> Generator[Progress, None, T]:
    """The same generator, each of its stretches inside the lock that keeps latency from being measured meanwhile."""
    from starsearch.latency import computing

    try:
        while True:
            with computing():
                try:
                    progress = next(steps)
                except StopIteration as stop:
                    value: T = stop.value
                    return value
            yield progress
    finally:
        steps.close()


def _scaled(steps: Generator[Progress, None, T], low: float, high: float) -> Generator[Progress, None, T]:
    """The same generator, its fractions mapped from 0..1 to low..high."""
    iterator: Iterator[Progress] = steps
    try:
        while True:
            try:
                progress = next(iterator)
            except StopIteration as stop:
                value: T = stop.value
                return value
            yield replace(progress, fraction=low + (high - low) * progress.fraction)
    finally:
        steps.close()
