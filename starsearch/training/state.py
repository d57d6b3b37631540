"""`TrainingState`: where a training is; and `Keeper`, which keeps it in a file and resumes it from there."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from timm.utils import random_seed

from starsearch.data.preprocessing import Validated
from starsearch.errors import StudyError, TrainingStoppedError
from starsearch.training.checkpoint import load_checkpoint, random_states, save_checkpoint, set_random_states
from starsearch.training.evaluate import Accuracy
from starsearch.training.optimisation import Optimisation
from starsearch.training.ranks import Ranks
from starsearch.training.weight_file import save_weights

# Fields that a checkpoint holds as they are.
_PLAIN = ("epoch", "step", "loss", "report", "best_top1_percent", "trained_s", "num_images")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where a training is kept, and how long.

    Attributes:
        last: the checkpoint, the file of its state.
        best: file of the weights (safetensors) of its best epoch, by validated top-1; None keeps none.
        validated: how the best epoch's weights were validated, for their file.
        every_s: seconds after which the state is kept within an epoch; a checkpoint of StarNet-S4 has 90 MB.
        lasting: whether the checkpoint outlives the training. Then it is kept after every epoch, the last included, and
            one that cannot be used is an error; else it is kept as `every_s` says and where the training stops before
            its end, and one that cannot be used is overwritten.
        is_asked_to_stop: asked between two steps; once it says so the state is kept and the training stops.
    """

    last: Path
    best: Path | None = None
    validated: Validated | None = None
    every_s: float = 30.0
    lasting: bool = False
    is_asked_to_stop: Callable[[], bool] | None = None


@dataclass(slots=True, kw_only=True)
class TrainingState:
    """A training after an epoch, or within one.

    Attributes:
        optimisation: the network, its optimiser and its moving average.
        unreadable: names of the images that could not be read, by split: the lists that the data's splits keep.
        loss: sum of the losses of the current epoch's steps, on this rank.
        epoch: the last one trained and validated, from 1; 0 before the first ends.
        step: batches trained of the next epoch.
        accuracy: validated after `epoch`.
        report: what was reported after `epoch`, by name.
        best_top1_percent: of all epochs so far; -1 before the first ends.
        trained_s: seconds of training, without validation.
        num_images: trained on so far.
    """

    optimisation: Optimisation
    unreadable: Mapping[str, list[str]]
    loss: torch.Tensor
    epoch: int = 0
    step: int = 0
    accuracy: Accuracy | None = None
    report: dict[str, float] | None = None
    best_top1_percent: float = -1.0
    trained_s: float = 0.0
    num_images: int = 0

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint holds; the tensors, not copies."""
        return {
            **{name: getattr(self, name) for name in _PLAIN},
            "steps_per_epoch": self.optimisation.steps_per_epoch,
            "accuracy": None if self.accuracy is None else asdict(self.accuracy),
            "optimisation": self.optimisation.state(),
            "unreadable": {split: list(names) for split, names in self.unreadable.items()},
        }

    def load_state_dict(self, found: Mapping[str, Any]) -> None:
        """Take the place of what `state_dict` returned."""
        for name in _PLAIN:
            setattr(self, name, found[name])
        self.loss = self.loss.to(self.optimisation.device)
        self.accuracy = None if found["accuracy"] is None else Accuracy(**found["accuracy"])
        self.optimisation.restore(found["optimisation"], epochs=self.epoch, step=self.step)
        self.note_unreadable(found.get("unreadable", {}))  # which older files lack

    def note_unreadable(self, found: Mapping[str, Sequence[str]]) -> None:
        """Add the names that are new, by split."""
        for split, known in self.unreadable.items():
            known.extend(name for name in found.get(split, ()) if name not in known)

    def is_finite(self) -> bool:
        """Whether the loss and all weights are numbers.

        The loss counts beside the weights: a gradient scaler steps over a batch that overflowed and leaves the weights
        good, but no mean loss of this epoch is a number again, however often it is resumed.
        """
        weights = self.optimisation.model.parameters()
        return bool(torch.isfinite(self.loss)) and all(bool(torch.isfinite(weight).all()) for weight in weights)


class Keeper:
    """Keeps a training in its checkpoint, and resumes it from there.

    The training's `identity` is in `describe_training`'s words; `restore` moves its `state`; the first of the `ranks`
    writes; this part of the training stops after the epoch `until`.
    """

    def __init__(
        self, keeping: Keeping, *, identity: Mapping[str, str], state: TrainingState, ranks: Ranks, until: int
    ) -> None:
        self._keeping, self._identity, self._state, self._ranks, self._until = keeping, identity, state, ranks, until
        self._kept = time.monotonic()

    @property
    def lost_nothing(self) -> str:
        """Words on what is left after the training has diverged."""
        if not self._keeping.lasting or not self._keeping.last.is_file():
            return ""
        return f" The last good checkpoint is kept: {self._keeping.last}."

    @property
    def repeats_last_report(self) -> bool:
        """Whether the last epoch is reported again: who logs it may have been cut off before."""
        return self._keeping.lasting and self._state.report is not None

    def restore(self, *, seed: int) -> None:
        """Resume from the checkpoint if there is one that is not further than this part of the training.

        A lasting one that is damaged, of another training or further is an error.
        """
        found = load_checkpoint(self._keeping.last, of=self._identity, strict=self._keeping.lasting)
        if found is None or not self._fits(found):
            return
        self._state.load_state_dict(found)
        if len(found["random"]) == self._ranks.count:
            set_random_states(found["random"][self._ranks.rank])
        else:  # of another number of ranks: not bit-identical, but never the same draws on two ranks or twice
            steps = found["epoch"] * found["steps_per_epoch"] + found["step"]
            random_seed(seed + 1_000_003 * steps, self._ranks.rank)

    def _fits(self, found: dict[str, Any]) -> bool:
        """Whether this part of the training can resume from it; else it begins anew, over one that may be lost.

        In an epoch of another number of steps a step is no place: images that were there have become unreadable, or
        readable. A lasting training goes through that epoch again, from the weights it has.
        """
        keeping, steps = self._keeping, self._state.optimisation.steps_per_epoch
        epoch, step = found["epoch"], found["step"]
        if (epoch, step) > (self._until, 0):
            if keeping.lasting:
                raise StudyError(
                    f"The checkpoint {keeping.last.name} is further than this training will go: it is in epoch "
                    f"{epoch + bool(step)}, and this is for {self._until}. Train in another folder; {keeping.last} is "
                    "left as it is."
                )
            return False
        if step and found["steps_per_epoch"] != steps:
            if not keeping.lasting:
                return False
            warnings.warn(
                f"An epoch has {steps} steps now; it had {found['steps_per_epoch']} when {keeping.last.name} was kept: "
                f"other images can be read. Epoch {epoch + 1} begins again, with the weights of its step {step}.",
                stacklevel=2,
            )
            found |= {"step": 0, "loss": torch.zeros_like(found["loss"])}
        return True

    def after_step(self) -> None:
        """Within an epoch: keep the training if that is due, and stop it if that is asked."""
        due = time.monotonic() - self._kept >= self._keeping.every_s
        due, stops = self._ranks.any(due, self._is_asked_to_stop())
        if due or stops:
            self._save()
        if stops:
            raise self._stopped()

    def after_loss_of_worker(self) -> None:
        """If no further batch comes: keep and stop the training if that is asked, for the worker was ended with it.

        Only of a rank alone: others still wait for their batches, and what is kept is gathered from all.
        """
        if self._ranks.is_alone and self._is_asked_to_stop():
            self._save()
            raise self._stopped()

    def _is_asked_to_stop(self) -> bool:
        return self._keeping.is_asked_to_stop is not None and self._keeping.is_asked_to_stop()

    def _stopped(self) -> TrainingStoppedError:
        state = self._state
        return TrainingStoppedError(
            f"Stopped in epoch {state.epoch + 1} of {state.optimisation.num_epochs}, after {state.step} of its "
            f"{state.optimisation.steps_per_epoch} steps."
        )

    def after_epoch(self) -> None:
        """Keep the best weights, and the training if that is due or it stops here before its end."""
        state, keeping = self._state, self._keeping
        assert state.accuracy is not None
        if state.accuracy.top1_percent > state.best_top1_percent:
            state.best_top1_percent = state.accuracy.top1_percent
            if keeping.best is not None and self._ranks.rank == 0:
                save_weights(state.optimisation.judged_model, keeping.best, validated=keeping.validated)
        due = keeping.lasting
        if not due and state.epoch < state.optimisation.num_epochs:
            due = state.epoch == self._until
            due = due or self._ranks.any(time.monotonic() - self._kept >= keeping.every_s)[0]
        if due:
            self._save()

    def _save(self) -> None:
        """Write the checkpoint, unless the training has diverged: the next look at the loss will tell."""
        if self._ranks.any(not self._state.is_finite())[0]:
            return
        random = self._ranks.gather(random_states())
        self._kept = time.monotonic()
        for found in self._ranks.gather(dict(self._state.unreadable)):  # within an epoch each rank knows but its own
            self._state.note_unreadable(found)
        if self._ranks.rank == 0:
            checkpoint = {**self._state.state_dict(), "of": dict(self._identity), "random": random}
            save_checkpoint(checkpoint, self._keeping.last)
