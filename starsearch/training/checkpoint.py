"""A training between two steps, as a file: what it takes to go on as if it had never stopped."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from starsearch.errors import StudyError

_VERSION = 2
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training after an epoch, or within one.

    Attributes:
        of: what is trained, on what and from which seed, item by item in words; another training's is not taken.
        epoch: the last one trained and validated, from 1; 0 before the first ends.
        step: batches trained of the next epoch.
        steps_per_epoch: batches an epoch has; a `step` counts among so many.
        loss: sum of the losses of these batches, on the first rank.
        accuracy: validated after `epoch`, `Accuracy` by field; None before the first ends.
        report: what was told after `epoch`, by name; None before the first ends.
        best_top1_percent: of all epochs so far; -1 before the first ends.
        trained_s: seconds of training so far.
        num_images: trained on so far.
        optimisation: `Optimisation.state`.
        random: `random_states` of each rank.
        unreadable: names of the images that could not be read so far, on any rank, by split.
    """

    of: Mapping[str, str]
    epoch: int
    step: int
    steps_per_epoch: int
    loss: torch.Tensor
    accuracy: Mapping[str, Any] | None
    report: Mapping[str, float] | None
    best_top1_percent: float
    trained_s: float
    num_images: int
    optimisation: Mapping[str, Any]
    random: Sequence[Mapping[str, Any]]
    unreadable: Mapping[str, Sequence[str]] = field(default_factory=dict)  # which older files of this version lack


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write the file whole or not at all: the one before stays good until the new one is there.

    Raises:
        StudyError: the file cannot be written.
    """
    # Its own name: a worker that was given up may still write where its successor does.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}.partial")
    fields = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"version": _VERSION, **fields}, partial)
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's own stream tells of a full disk by a RuntimeError
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        said = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise StudyError(
            f"The checkpoint {path.name} cannot be written: {said}. The one before is kept, and the training goes on "
            f"from it: make room in {path.parent} and run the same command."
        ) from error


def load_checkpoint(path: Path, *, of: Mapping[str, str], strict: bool = False) -> Checkpoint | None:
    """The checkpoint in the file, on the CPU; None where there is none of this training that can be read.

    Args:
        path: of the file.
        of: the training it shall be of.
        strict: whether a file that cannot be used is an error; else the training begins anew.

    Raises:
        StudyError: `strict`, and the file is damaged or of another training; the text says what differs.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs = found.pop("version", None), dict(found.get("of"))
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file raises what its bytes happen to hit
        return _give_up(f"The checkpoint {path.name} cannot be read ({error})", path, strict)
    if version != _VERSION:
        return _give_up(f"The checkpoint {path.name} is of version {version}, not {_VERSION}", path, strict)
    if differing := _differences(theirs, of):
        return _give_up(f"The checkpoint {path.name} is of another training: {'; '.join(differing)}", path, strict)
    return Checkpoint(**found)


def _give_up(why: str, path: Path, strict: bool) -> Checkpoint | None:
    """None, with a warning or as an error."""
    if strict:
        raise StudyError(
            f"{why}. Go on with what it was begun with, or train in another folder; {path} is left as it is."
        )
    _logger.warning("%s: the training begins anew.", why)
    return None


def _differences(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    return [
        f"{name} {theirs.get(name, 'not said')} there, {ours.get(name, 'not said')} here"
        for name in dict.fromkeys((*theirs, *ours))
        if theirs.get(name) != ours.get(name)
    ]


def random_states() -> dict[str, Any]:
    """Of Python, NumPy, torch and its GPUs, in types that `torch.load` takes without running code."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 — timm draws from it
    return {
        "python": (version, list(numbers), gauss),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Go on drawing where `random_states` was taken."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])


def describe_training(**what: object) -> dict[str, str]:
    """What a checkpoint is of, item by item in words; a dataclass is an item a field."""
    items: dict[str, str] = {}
    for name, value in what.items():
        if is_dataclass(value) and not isinstance(value, type):
            items |= {f"{name}.{key}": _in_words(one) for key, one in asdict(value).items()}
        else:
            items[name] = _in_words(value)
    return items


def _in_words(value: object) -> str:
    """1 and 1.0 are the same number, as a recipe's defaults and its file write it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
