"""A training step as a GPU likes it: `CapturedStep`, one CUDA graph."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from timm.utils import ModelEmaV3

from starsearch.errors import first_line

Update = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
# A graph, and the tensors that its replays read and write: images, targets, loss.
_Captured = tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor, torch.Tensor]
# Before the capture each of them is a step of the training like any other: libraries set themselves up in the first,
# the optimiser makes its state, and the allocator finds its sizes.
_PLAIN_STEPS = 3


class CapturedStep:
    """Carries out steps by the kernels of one CUDA graph, which a CPU launches at once instead of one by one.

    What changes from step to step lives in tensors: the batch, the learning rates and the weight of the moving average.
    On a CPU, and on a GPU in the first steps, for batches of another shape and where the capture fails, the same
    operations run uncaptured. Nothing is computed twice: a capture only records.

    Args:
        optimizer: one of torch's fused ones, which take the learning rate as a tensor; capturable where it is Adam.
        model, ema: the network and its moving average, or None.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, model: torch.nn.Module, ema: ModelEmaV3 | None) -> None:
        self._optimizer = optimizer
        device = next(model.parameters()).device
        self._rates = [torch.zeros((), device=device) for _ in optimizer.param_groups]
        self._weight = torch.zeros((), device=device)
        states = [] if ema is None else [ema.module.state_dict().values(), model.state_dict().values()]
        averaged = list(zip(*states, strict=True))
        self._numbers = [pair for pair in averaged if pair[0].is_floating_point()]
        self._counts = [pair for pair in averaged if not pair[0].is_floating_point()]
        make_stream: Any = torch.cuda.Stream  # torch has no types for it
        self._stream: Any = make_stream(device) if device.type == "cuda" else None
        self._steps = 0
        self._captured: _Captured | None = None

    def __call__(
        self, update: Update, images: torch.Tensor, targets: torch.Tensor, *, average: float = 0.0
    ) -> torch.Tensor:
        """Return the loss of a batch after `update`, which trains on it and ends with the optimiser's step.

        The loss is overwritten by the next call. `average` is the weight of the new weights in the moving average.
        """
        groups: list[dict[str, Any]] = self._optimizer.param_groups
        numbers = [group["lr"] for group in groups]  # as the schedule and checkpoints have them
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate.fill_(group["lr"])
        self._weight.fill_(average)
        try:
            return self._step(update, images, targets)
        finally:
            for group, number in zip(groups, numbers, strict=True):
                group["lr"] = number

    def end(self) -> None:
        """Drop what is captured, once it is no longer replayed; further steps are captured anew."""
        if self._stream is not None:
            torch.cuda.synchronize(self._weight.device)
        self._steps, self._captured = 0, None

    def _step(self, update: Update, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        if self._stream is None:
            return self._run(update, images, targets)
        self._steps += 1
        if self._steps == _PLAIN_STEPS + 1:
            self._captured = self._capture(update, images, targets)
        if self._captured is None:
            return self._run_aside(update, images, targets)
        graph, *inputs, loss = self._captured
        if [one.shape for one in inputs] != [images.shape, targets.shape]:
            return self._run_aside(update, images, targets)
        for into, given in zip(inputs, (images, targets), strict=True):
            into.copy_(given)
        graph.replay()
        return loss

    def _run(self, update: Update, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        loss = update(images, targets)
        if self._numbers:
            with torch.no_grad():
                olds, news = map(list, zip(*self._numbers, strict=True))
                changes: Any = torch._foreach_sub(news, olds)
                torch._foreach_mul_(changes, self._weight)
                torch._foreach_add_(olds, changes)
                for old, new in self._counts:
                    old.copy_(new)
        return loss

    def _run_aside(self, update: Update, images: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Run on the stream of the capture, so that what libraries and allocator keep for a stream is there for it."""
        current = torch.cuda.current_stream(images.device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            loss = self._run(update, images, targets)
        current.wait_stream(self._stream)
        return loss

    def _capture(self, update: Update, images: torch.Tensor, targets: torch.Tensor) -> _Captured | None:
        """Record the step for batches of this shape; None where that is not possible, which a warning says."""
        generator = torch.cuda.default_generators[images.device.index or 0]
        before, graph = generator.clone_state(), torch.cuda.CUDAGraph()
        inputs, current = (images.clone(), targets.clone()), torch.cuda.current_stream(images.device)
        try:
            with (
                torch.cuda.stream(current),  # back to it, also where the end of the capture fails
                # Other threads, such as one that pins memory, may call CUDA meanwhile.
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                loss = self._run(update, *inputs)
        except RuntimeError as error:  # torch's own for what cannot be captured; out of memory is one, too
            generator.graphsafe_set_state(before)  # else it takes itself for captured still
            warnings.warn(
                f"A step of this training cannot be captured as a CUDA graph ({first_line(error)}); its operations are "
                "launched one by one, which is slower where they are small.",
                stacklevel=2,
            )
            return None
        return graph, *inputs, loss
