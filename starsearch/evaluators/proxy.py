"""`ProxyEvaluator`: trains a candidate at a fidelity, then measures or predicts the deployed network's latency."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from starsearch.candidate import Candidate
from starsearch.data import DataSet
from starsearch.errors import EvaluationError
from starsearch.evaluators.evaluator import WHOLE, Evaluation, TrainingPart
from starsearch.evaluators.latency import LatencyEvaluator, LatencyMeter, predict_latencies
from starsearch.evaluators.placement import measure_coreml_placement
from starsearch.evaluators.steps import without_measuring
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.measurement import Measurement, Reading, accuracy_measurement
from starsearch.objective import LATENCY
from starsearch.progress import Progress, scaled
from starsearch.recipe import Fidelity

if TYPE_CHECKING:
    import torch

    from starsearch.families.network import Network
    from starsearch.latency.prediction.profile import DeviceProfile
    from starsearch.latency.reference import Reference
    from starsearch.training import TrainingResult

# Of an evaluation's time, for the bar; latency takes a second or two whatever the training takes.
_TRAINING_SHARE = 0.95
_INT8_SHARE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvaluator:
    """Judges a candidate by training it and, with a `reference`, by timing the network it would be deployed as.

    Attributes:
        data: what is trained and validated on.
        fidelity: how much is spent.
        resolution: at which the network is deployed, counted and timed, in pixels.
        reference: the latency scale of this machine; None where nothing is timed.
        timed: names of the latencies that are measured on this machine; one measurement serves them all.
        profiles: what further latencies are predicted from, by name.
        int8: whether the network is made int8 as well, and timed and validated as such.
        coreml_placement: whether Core ML is asked what would fall back to the CPU (`coreml_cpu_percent`).
    """

    data: DataSet
    fidelity: Fidelity
    resolution: int = 224
    reference: Reference | None = None
    timed: tuple[str, ...] = (LATENCY,)
    profiles: Mapping[str, DeviceProfile] = field(default_factory=dict)
    int8: bool = False
    coreml_placement: bool = False

    def __call__(
        self, candidate: Candidate, *, seed: int, weights: Path | None, part: TrainingPart = WHOLE
    ) -> Evaluation:
        """Yield progress; return top-1, top-5, images per second, latencies, MACs and parameters.

        MACs, parameters and latency are those of the network as it is deployed, with the data's own classes; the
        accuracies carry the binomial standard error of their images.

        Raises:
            EvaluationError: the training diverged or took too long, or the network cannot be timed, or a profile
                has no term for one of its layers.
            StudyError: weights or checkpoint cannot be written.
        """
        import torch

        from starsearch.training import Hardware, train

        known = {one.name: one for one in part.known}
        # First: a network that cannot be predicted need not be trained.
        predicted = self._predict(candidate.architecture)
        fp32_share = 1 - _INT8_SHARE if self.int8 else 1.0
        training = train(
            candidate.architecture,
            data=self.data,
            recipe=candidate.recipe,
            fidelity=part.of(self.fidelity),
            seed=seed,
            until=part.until,
            checkpoint=part.checkpoint,
            lineage=f"{self.fidelity} {part.of_rungs} {'from weights' if part.start else ''}",
            initial=None if part.start is None else _initial(part.start),
            hardware=Hardware(
                device="cuda" if torch.cuda.is_available() else "cpu",
                precision=self.fidelity.precision,
                accumulate=self.fidelity.accumulate,
            ),
        )
        result = yield from scaled(without_measuring(training), 0.0, _TRAINING_SHARE * fp32_share)
        cost = count_cost(candidate.architecture, resolution=self.resolution, num_classes=len(self.data.classes))
        readings: list[Reading] = [*_accuracy(result), *cost, *predicted]
        if weights is not None:
            self._save(result.model, weights, part.of(self.fidelity))
        if known.keys() >= set(self.timed):
            readings += [known[name] for name in self.timed]
        elif self.reference is not None:
            steps = self._measure_latency(candidate.architecture, seed)
            latency = yield from scaled(steps, _TRAINING_SHARE * fp32_share, fp32_share)
            readings += [replace(latency, name=name) for name in self.timed]
        if self.int8:
            readings += yield from scaled(self._evaluate_int8(result.model, seed), fp32_share, 1.0)
        return tuple(readings)

    def _save(self, model: Network, path: Path, fidelity: Fidelity) -> None:
        from starsearch.data.preprocessing import Validated
        from starsearch.training.weight_file import save_weights

        validated = Validated.on(self.data, fidelity)
        save_weights(model, path, validated=validated, otherwise="set search.keep_weights to none, ")

    def check(self) -> None:
        """Read an image of either split, for a worker on another machine.

        Raises:
            OSError: it is not there, or cannot be read.
        """
        for split in (self.data.train, self.data.validation):
            split.read(0)

    def only_timing(self) -> LatencyEvaluator:
        """What measures the same latencies and does not train."""
        assert self.reference is not None
        return LatencyEvaluator(
            reference=self.reference,
            timed=self.timed,
            resolution=self.resolution,
            num_classes=len(self.data.classes),
        )

    def _predict(self, architecture: Architecture) -> Sequence[Reading]:
        num_classes = len(self.data.classes)
        predicted: list[Reading] = [
            *predict_latencies(architecture, self.profiles, resolution=self.resolution, num_classes=num_classes)
        ]
        if self.coreml_placement:
            predicted.append(
                measure_coreml_placement(architecture, resolution=self.resolution, num_classes=num_classes)
            )
        return predicted

    def _measure_latency(self, architecture: Architecture, seed: int) -> Generator[Progress, None, Measurement]:
        assert self.reference is not None
        meter = LatencyMeter(
            name=LATENCY,
            reference=self.reference,
            resolution=self.resolution,
            num_classes=len(self.data.classes),
            seed=seed,
        )
        return (yield from meter(architecture))

    def _evaluate_int8(self, model: Network, seed: int) -> Generator[Progress, None, tuple[Measurement, ...]]:
        from starsearch.evaluators.int8 import evaluate_int8

        return evaluate_int8(
            model,
            data=self.data,
            fidelity=self.fidelity,
            resolution=self.resolution,
            reference=self.reference,
            seed=seed,
        )


def count_cost(architecture: Architecture, *, resolution: int, num_classes: int) -> tuple[Measurement, Measurement]:
    """Return MACs (conv + linear) and parameters of the network as it is deployed."""
    macs = count_macs(architecture, resolution=resolution, num_classes=num_classes)
    return (
        Measurement(name="macs", value=macs),
        Measurement(name="num_params", value=count_params(architecture, num_classes=num_classes)),
    )


def _initial(file: Path) -> dict[str, torch.Tensor]:
    """The weights that the fidelity below has trained.

    Raises:
        EvaluationError: they are not there; from scratch it would be another training.
    """
    from starsearch.training.weight_file import load_weights

    try:
        return load_weights(file).state_dict()
    except OSError:
        raise EvaluationError(
            f"The training shall begin with the weights of the fidelity below, but {file.name} is not there. Let the "
            "study keep them all (search.keep_weights: all) from its beginning, or say start: scratch."
        ) from None


def _accuracy(result: TrainingResult) -> Sequence[Measurement]:
    return (
        accuracy_measurement("top1_percent", result.top1_percent, num_images=result.num_validation_images),
        accuracy_measurement("top5_percent", result.top5_percent, num_images=result.num_validation_images),
        Measurement(name="images_per_second", value=result.images_per_second),
    )
