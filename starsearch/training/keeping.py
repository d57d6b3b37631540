"""When a training is kept, and where: its last state and its best weights."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from timm.utils import random_seed

from starsearch.data.preprocessing import Validated
from starsearch.errors import StudyError, TrainingStoppedError
from starsearch.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    random_states,
    save_checkpoint,
    set_random_states,
)
from starsearch.training.evaluate import Accuracy
from starsearch.training.optimisation import Optimisation
from starsearch.training.ranks import Ranks
from starsearch.training.weight_file import save_weights

_EVERY_S = 30.0  # a checkpoint of StarNet-S4 with its optimiser's moments has 90 MB


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """Where a training is kept, and how long.

    Attributes:
        last: file of its state.
        best: file of the weights (safetensors) of its best epoch, by validated top-1; None keeps none.
        validated: how the best epoch's weights were, for their file; None where that need not be in it.
        every_s: seconds after which the state is kept within an epoch.
        lasting: whether the file outlives the training. Then it is kept after every epoch, the last included, and one
            that cannot be used is an error; else it is kept as `every_s` says and where the training stops before its
            end, and one that cannot be used is overwritten.
        is_asked_to_stop: asked between two steps; once it says so the state is kept and the training stops.
    """

    last: Path
    best: Path | None = None
    validated: Validated | None = None
    every_s: float = _EVERY_S
    lasting: bool = False
    is_asked_to_stop: Callable[[], bool] | None = None


@dataclass(slots=True, kw_only=True)
class Position:
    """How far a training is; `Checkpoint` says what the fields mean."""

    loss: torch.Tensor
    epoch: int = 0
    step: int = 0
    accuracy: Accuracy | None = None
    report: Mapping[str, float] | None = None
    best_top1_percent: float = -1.0
    trained_s: float = 0.0
    num_images: int = 0
    unreadable: dict[str, list[str]] = field(default_factory=dict)  # the lists that the data's splits keep

    def note_unreadable(self, found: Mapping[str, Sequence[str]]) -> None:
        """Add the names that are new, by split."""
        for split, names in found.items():
            known = self.unreadable.setdefault(split, [])
            known.extend(name for name in names if name not in known)


class Keeper:
    """Keeps a training in its checkpoint, and finds it there.

    Args:
        keeping: where and how.
        of: what is trained, in words.
        position: how far it is; `restore` moves it.
        optimisation: the network on its way.
        ranks: of which the first one writes.
        until: the epoch after which this part of the training stops.
    """

    def __init__(
        self,
        keeping: Keeping,
        *,
        of: Mapping[str, str],
        position: Position,
        optimisation: Optimisation,
        ranks: Ranks,
        until: int,
    ) -> None:
        self._keeping = keeping
        self._of = of
        self._position = position
        self._optimisation = optimisation
        self._ranks = ranks
        self._until = until
        self._kept = time.monotonic()

    @property
    def lost_nothing(self) -> str:
        """What is left after a mishap, in words."""
        if not self._keeping.lasting or not self._keeping.last.is_file():
            return ""
        return f" The last good checkpoint is kept: {self._keeping.last}."

    @property
    def tells_again(self) -> bool:
        """Whether what was told after the last epoch is told again: who logs it may have been cut off before."""
        return self._keeping.lasting and self._position.report is not None

    def restore(self, *, seed: int) -> None:
        """Go on from the checkpoint, where there is one that is not further than this part of the training.

        Raises:
            StudyError: a lasting one is damaged, of another training, or further than this part of it.
        """
        loaded = load_checkpoint(self._keeping.last, of=self._of, strict=self._keeping.lasting)
        found = None if loaded is None else self._fitting(loaded)
        if found is None:
            return
        self._optimisation.restore(found.optimisation, epochs=found.epoch, step=found.step)
        position = self._position
        position.epoch, position.step = found.epoch, found.step
        position.loss = found.loss.to(position.loss.device)
        position.accuracy = None if found.accuracy is None else Accuracy(**found.accuracy)
        position.report = found.report
        position.best_top1_percent = found.best_top1_percent
        position.trained_s, position.num_images = found.trained_s, found.num_images
        position.note_unreadable(found.unreadable)
        if len(found.random) == self._ranks.count:
            set_random_states(found.random[self._ranks.rank])
        else:  # of another number of ranks: not to the bit, but never the same draws on two ranks or twice
            random_seed(seed + 1_000_003 * (found.epoch * found.steps_per_epoch + found.step), self._ranks.rank)

    def _fitting(self, found: Checkpoint) -> Checkpoint | None:
        """What this part of the training goes on from; None where it begins anew, over a checkpoint that may be lost.

        Within an epoch of another number of steps a step is no place: images that were there have become unreadable,
        or readable. A lasting training goes through that epoch again, from the weights it has.
        """
        keeping, steps = self._keeping, self._optimisation.steps_per_epoch
        if (found.epoch, found.step) > (self._until, 0):
            if not keeping.lasting:
                return None
            raise StudyError(
                f"The checkpoint {keeping.last.name} is further than this training shall go: it is in epoch "
                f"{found.epoch + bool(found.step)}, and this is for {self._until}. Train in another folder; "
                f"{keeping.last} is left as it is."
            )
        if not found.step or found.steps_per_epoch == steps:
            return found
        if not keeping.lasting:
            return None
        warnings.warn(
            f"An epoch has {steps} steps now; it had {found.steps_per_epoch} when {keeping.last.name} was kept: other "
            f"images can be read. Epoch {found.epoch + 1} begins again, with the weights of its step {found.step}.",
            stacklevel=2,
        )
        return replace(found, step=0, loss=torch.zeros_like(found.loss))

    def after_step(self) -> None:
        """Within an epoch: keep the training where that is due, and stop it where that is asked.

        Raises:
            TrainingStoppedError: it was asked to stop, and is kept.
        """
        due = time.monotonic() - self._kept >= self._keeping.every_s
        asked = self._keeping.is_asked_to_stop
        due, stops = self._ranks.any(due, asked is not None and asked())
        if due or stops:
            self._save()
        if stops:
            raise self._stopped()

    def after_loss_of_worker(self) -> None:
        """Where no further batch comes: keep and stop the training if that is asked, for the worker was ended with it.

        Only of a rank alone: others still wait for their batches, and what is kept is gathered from all.

        Raises:
            TrainingStoppedError: it was asked to stop, and is kept.
        """
        asked = self._keeping.is_asked_to_stop
        if self._ranks.is_alone and asked is not None and asked():
            self._save()
            raise self._stopped()

    def _stopped(self) -> TrainingStoppedError:
        epochs = self._optimisation.num_epochs
        return TrainingStoppedError(
            f"Stopped in epoch {self._position.epoch + 1} of {epochs}, after {self._position.step} of its "
            f"{self._optimisation.steps_per_epoch} steps."
        )

    def after_epoch(self) -> None:
        """Keep the best weights, and the training where that is due or it stops here before its end."""
        self._keep_best()
        epoch = self._position.epoch
        if epoch == self._optimisation.num_epochs:
            due = self._keeping.lasting
        else:
            due = self._keeping.lasting or epoch == self._until
            due = due or self._ranks.any(time.monotonic() - self._kept >= self._keeping.every_s)[0]
        if due:
            self._save()

    def _keep_best(self) -> None:
        position = self._position
        assert position.accuracy is not None
        if position.accuracy.top1_percent <= position.best_top1_percent:
            return
        position.best_top1_percent = position.accuracy.top1_percent
        if self._keeping.best is not None and self._ranks.rank == 0:
            save_weights(self._optimisation.judged_model, self._keeping.best, validated=self._keeping.validated)

    def _has_diverged(self) -> bool:
        """Whether a weight of the network or the loss of a rank is no number; the same on every rank.

        The sum of the losses counts beside the weights: a gradient scaler steps over a batch that overflowed and
        leaves the weights good, but no loss of this epoch is a number again, however often it is gone on with.
        """
        finite = _is_finite(self._optimisation.model) and bool(torch.isfinite(self._position.loss))
        return self._ranks.any(not finite)[0]

    def _save(self) -> None:
        if self._has_diverged():  # the next look at the loss will tell; the last good state stays
            return
        states = self._ranks.gather(random_states())
        self._kept = time.monotonic()
        position = self._position
        for found in self._ranks.gather(position.unreadable):  # within an epoch each rank knows but its own
            position.note_unreadable(found)
        if self._ranks.rank != 0:
            return
        checkpoint = Checkpoint(
            of=self._of,
            epoch=position.epoch,
            step=position.step,
            steps_per_epoch=self._optimisation.steps_per_epoch,
            loss=position.loss,
            accuracy=None if position.accuracy is None else asdict(position.accuracy),
            report=None if position.report is None else dict(position.report),
            best_top1_percent=position.best_top1_percent,
            trained_s=position.trained_s,
            num_images=position.num_images,
            optimisation=self._optimisation.state(),
            random=states,
            unreadable={split: list(names) for split, names in position.unreadable.items()},
        )
        save_checkpoint(checkpoint, self._keeping.last)


def _is_finite(model: torch.nn.Module) -> bool:
    """Whether all weights are numbers; the same on every rank, since they are."""
    return all(bool(torch.isfinite(parameter).all()) for parameter in model.parameters())
