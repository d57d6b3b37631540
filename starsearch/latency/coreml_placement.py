"""Which processor Core ML chooses for each operation: what `MLComputePlan` says, summed up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from starsearch.errors import EvaluationError

Processor = Literal["cpu", "gpu", "neural_engine"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuOperation:
    """An operation that Core ML prefers to run on the CPU.

    Attributes:
        name: of its output, which is the layer's with underscores.
        type: MIL's name of it.
        cost_share: of the network's estimated cost, 0 to 1.
        is_forced: no other processor that was allowed supports it.
    """

    name: str
    type: str
    cost_share: float
    is_forced: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a network's operations run, by Core ML's own estimate of their cost.

    Attributes:
        cpu_share, gpu_share, neural_engine_share: of the cost, together 1.
        cpu_operations: that run on the CPU, dearest first. With a faster processor allowed these are the usual
            surprise: data goes there and back.
        operations: how many run on some processor: all but the constants.
    """

    cpu_share: float
    gpu_share: float
    neural_engine_share: float
    cpu_operations: tuple[CpuOperation, ...]
    operations: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Placed:
    """An operation with the processor that Core ML prefers, and all that support it."""

    name: str
    type: str
    cost: float
    preferred: Processor
    supported: frozenset[Processor]


def read_placement(plan: Any) -> Placement:
    """The placement that a `coremltools.models.compute_plan.MLComputePlan` of a program describes.

    Constants have no processor and are passed over.

    Raises:
        EvaluationError: the plan is of no program, or tells no costs.
    """
    program = plan.model_structure.program
    if program is None:
        raise EvaluationError("Core ML's plan is not of a program; only packages that starsearch exported are placed.")
    operations = program.functions["main"].block.operations
    placed = [found for operation in operations if (found := _read_operation(plan, operation)) is not None]
    total = sum(operation.cost for operation in placed)
    if total <= 0:
        raise EvaluationError("Core ML estimates no costs for this package; that takes macOS 14.4 or iOS 17.4.")
    cost = {
        processor: sum(operation.cost for operation in placed if operation.preferred == processor) / total
        for processor in ("cpu", "gpu", "neural_engine")
    }
    return Placement(
        cpu_share=cost["cpu"],
        gpu_share=cost["gpu"],
        neural_engine_share=cost["neural_engine"],
        cpu_operations=_on_cpu(placed, total),
        operations=len(placed),
    )


def _on_cpu(placed: list[_Placed], total: float) -> tuple[CpuOperation, ...]:
    """Those that prefer the CPU, dearest first."""
    found = [
        CpuOperation(
            name=operation.name,
            type=operation.type,
            cost_share=operation.cost / total,
            is_forced=operation.supported <= {"cpu"},
        )
        for operation in placed
        if operation.preferred == "cpu"
    ]
    return tuple(sorted(found, key=lambda operation: -operation.cost_share))


def _read_operation(plan: Any, operation: Any) -> _Placed | None:
    """None where the plan has no processor for it: a constant."""
    usage = plan.get_compute_device_usage_for_mlprogram_operation(operation)
    cost = plan.get_estimated_cost_for_mlprogram_operation(operation)
    if usage is None:
        return None
    return _Placed(
        name=operation.outputs[0].name,
        type=operation.operator_name,
        cost=0.0 if cost is None else float(cost.weight),
        preferred=_processor(usage.preferred_compute_device),
        supported=frozenset(map(_processor, usage.supported_compute_devices)),
    )


def _processor(device: Any) -> Processor:
    from coremltools.models import compute_device

    processors: tuple[tuple[type, Processor], ...] = (
        (compute_device.MLCPUComputeDevice, "cpu"),
        (compute_device.MLGPUComputeDevice, "gpu"),
        (compute_device.MLNeuralEngineComputeDevice, "neural_engine"),
    )
    for known, processor in processors:
        if isinstance(device, known):
            return processor
    raise EvaluationError(f"Core ML chose {type(device).__name__}, a processor that starsearch does not know.")
