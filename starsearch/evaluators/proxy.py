"""`ProxyEvaluator`: measures or predicts the deployed network's latency, then trains the candidate at a fidelity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starsearch.candidate import Candidate
from starsearch.data import DataSet
from starsearch.errors import EvaluationError
from starsearch.evaluators.evaluator import WHOLE, Evaluation, TrainingPart, Untrained
from starsearch.evaluators.footprint import measure_footprint
from starsearch.evaluators.latency import (
    LatencyEvaluator,
    measure_coreml_placement,
    predict_latencies,
    without_measuring,
)
from starsearch.families.family import Architecture, count_macs, count_params
from starsearch.families.timm import TimmArchitecture
from starsearch.measurement import Measurement, Prediction, Reading, trained_accuracies
from starsearch.objective import Constraint
from starsearch.progress import scaled
from starsearch.recipe import Fidelity
from starsearch.resolution import Resolution

if TYPE_CHECKING:
    import torch

    from starsearch.latency.prediction.profile import DeviceProfile
    from starsearch.training import TrainingResult
    from starsearch.training.weight_file import TrainedWeights

_INT8_SHARE = 0.2  # of an evaluation's time, for the bar


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyEvaluator:
    """Judges a candidate by training it and, with `timing`, by timing the network it would be deployed as.

    What takes no training is found out first: a searched network that breaks one of the `constraints` by it is not
    trained, and what is known is returned as `Untrained`.
    """

    data: DataSet  # what is trained and validated on
    fidelity: Fidelity  # how much is spent
    resolution: Resolution = 224  # that of the deployed network, at which it is counted and timed, in pixels
    timing: LatencyEvaluator | None = None  # measures latencies on this machine; None where nothing is timed
    # what further latencies are predicted from, by name
    profiles: Mapping[str, DeviceProfile] = field(default_factory=dict)
    weights: TrainedWeights | None = None  # with which trainings begin that do not follow on a lower fidelity's
    int8: bool = False  # whether the network is made int8 as well, and timed and validated as such
    footprint: tuple[str, ...] = ()  # which of `FOOTPRINT` are measured
    coreml_placement: bool = False  # whether Core ML is asked what would fall back to the CPU (`coreml_cpu_percent`)
    constraints: tuple[Constraint, ...] = ()  # the study's

    def __call__(
        self, candidate: Candidate, *, seed: int, weights: Path | None, part: TrainingPart = WHOLE
    ) -> Evaluation:
        """Yield progress; return MACs, parameters, latencies and, if it is trained, top-1, top-5, images per second.

        MACs, parameters and latency are those of the network as it is deployed, with the data's own classes; the
        accuracies carry the binomial standard error of their images.

        Raises:
            EvaluationError: the training diverged or took too long, or the network cannot be timed, or a profile
                has no term for one of its layers.
            StudyError: weights or checkpoint cannot be written.
        """
        from starsearch.training import Hardware, find_device, train

        resolution = candidate.resolution or self.resolution
        parts = (self.fidelity, part.of(self.fidelity))  # a rung may be written in another shape
        whole, here = (one.shaped(self.resolution).scaled(resolution, self.resolution) for one in parts)
        readings = self._predict(candidate.architecture, resolution)
        if self.timing is not None:
            timing = self.timing(candidate, seed=seed, weights=None, part=part)
            readings += yield from scaled(timing, 0.0, 0.0)  # a second or two, whatever the training takes
        if candidate.anchor is None and any(_breaks(one, (*readings, *part.known)) for one in self.constraints):
            return Untrained(readings)
        is_ours = candidate.architecture.family != "timm"
        given = self.weights.for_data(self.data) if self.weights and is_ours else None
        training = train(
            candidate.architecture,
            data=self.data,
            recipe=candidate.recipe,
            fidelity=here,
            seed=seed,
            until=part.until,
            checkpoint=part.checkpoint,
            lineage=f"{whole} {part.of_rungs} {'from weights' if part.start else self.fidelity.weights or ''}",
            initial=given if part.start is None else _initial(part.start),
            hardware=Hardware(
                device=find_device(),
                precision=self.fidelity.precision,
                accumulate=self.fidelity.accumulate,
            ),
        )
        float32_share = 1 - _INT8_SHARE if self.int8 else 1.0
        result = yield from scaled(without_measuring(training), 0.0, float32_share)
        if weights is not None:
            self._save(result, weights, here)
        judged = {"num_images": result.num_validation_images, "num_classes": len(self.data.classes)}
        readings = [
            *trained_accuracies(result.top1_percent, result.top5_percent, **judged),
            Measurement(name="images_per_second", value=result.images_per_second),
            *readings,
        ]
        if self.int8:
            from starsearch.evaluators.int8 import evaluate_int8

            quantised = evaluate_int8(
                result.model,
                data=self.data,
                fidelity=whole,
                resolution=resolution,
                reference=None if self.timing is None else self.timing.reference,
                seed=seed,
            )
            readings += yield from scaled(quantised, float32_share, 1.0)
        return tuple(readings)

    def check(self) -> None:
        """Read an image of either split, for a worker on another machine; raise `OSError` where it is not there."""
        for split in (self.data.train, self.data.validation):
            split.read(0)

    def _predict(self, architecture: Architecture, resolution: Resolution) -> list[Reading]:
        deployed: dict[str, Any] = {"resolution": resolution, "num_classes": len(self.data.classes)}
        predicted: list[Reading] = [*count_cost(architecture, **deployed)]
        predicted += predict_latencies(architecture, self.profiles, **deployed)
        if self.coreml_placement:
            predicted.append(measure_coreml_placement(architecture, **deployed))
        return [*predicted, *measure_footprint(architecture, self.footprint, **deployed)]

    def _save(self, result: TrainingResult, path: Path, fidelity: Fidelity) -> None:
        from starsearch.data.preprocessing import Validated
        from starsearch.training.weight_file import save_weights

        validated = Validated.on(self.data, fidelity)
        save_weights(result.model, path, validated=validated, otherwise="set search.keep_weights to none, ")


def _breaks(constraint: Constraint, readings: Iterable[Reading]) -> bool:
    """Whether a reading breaks a constraint; a prediction does with the whole of its interval."""
    for one in readings:
        if one.name == constraint.name:
            low, high = (one.low, one.high) if isinstance(one, Prediction) else (one.value, one.value)
            is_over = constraint.high is not None and low > constraint.high
            return is_over or (constraint.low is not None and high < constraint.low)
    return False


def count_cost(
    architecture: Architecture, *, resolution: Resolution, num_classes: int
) -> tuple[Measurement, Measurement]:
    """Return the multiply-accumulates and the parameters of the network as it is deployed."""
    if isinstance(architecture, TimmArchitecture):
        from timm.utils.model import reparameterize_model

        from starsearch.families.network import build_model

        model: Any = build_model(architecture, num_classes=num_classes)
        model.net = reparameterize_model(model.net)
        macs, num_params = model.count_macs(resolution=resolution), sum(one.numel() for one in model.parameters())
    else:
        macs = count_macs(architecture, resolution=resolution, num_classes=num_classes)
        num_params = count_params(architecture, num_classes=num_classes)
    return Measurement(name="macs", value=macs), Measurement(name="num_params", value=num_params)


def _initial(file: Path) -> dict[str, torch.Tensor]:
    """The weights that the fidelity below has trained; without them it would be another training, from scratch."""
    from starsearch.training.weight_file import load_weights

    try:
        return load_weights(file).state_dict()
    except OSError:
        raise EvaluationError(
            f"The training has to begin with the weights of the fidelity below, but {file.name} is not there. Let the "
            "study keep them all (search.keep_weights: all) from its beginning, or say start: scratch."
        ) from None
