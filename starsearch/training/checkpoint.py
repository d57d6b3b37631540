"""A training between two steps, as a file."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from starsearch.errors import StudyError, first_line
from starsearch.files import written_whole

_VERSION = 2
_logger = logging.getLogger(__name__)


def save_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint whole or not at all: the one before stays good until the new one is there.

    Args:
        checkpoint: what `TrainingState.state_dict` says, with "of", the identity as `describe_training` words it, and
            "random", the `random_states` of each rank.
        path: the file.
    """
    advice = f"The one before is kept: make room in {path.parent} and run the same command, which resumes from it."
    with written_whole(path, f"the checkpoint {path.name}", advice=advice) as partial:
        try:
            torch.save({"version": _VERSION, **checkpoint}, partial)
        except RuntimeError as error:  # how torch's own stream tells of a full disk
            raise OSError(first_line(error)) from error


def load_checkpoint(path: Path, *, of: Mapping[str, str], strict: bool = False) -> dict[str, Any] | None:
    """Return the checkpoint in the file, on the CPU; None if there is none of this training that can be read.

    Args:
        path: the file.
        of: the identity of the training that resumes.
        strict: whether a file that cannot be used is an error, which says what differs; else the training begins anew.
    """
    try:
        found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        version, theirs = found.pop("version", None), dict(found["of"])
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file raises what its bytes happen to hit
        return _give_up(f"The checkpoint {path.name} cannot be read ({error})", path, strict)
    if version != _VERSION:
        return _give_up(f"The checkpoint {path.name} is of version {version}, not {_VERSION}", path, strict)
    differing = [
        f"{name} {theirs.get(name, 'not said')} there, {of.get(name, 'not said')} here"
        for name in dict.fromkeys((*theirs, *of))
        if theirs.get(name) != of.get(name)
    ]
    if differing:
        return _give_up(f"The checkpoint {path.name} is of another training: {'; '.join(differing)}", path, strict)
    return found


def _give_up(why: str, path: Path, strict: bool) -> dict[str, Any] | None:
    if strict:
        raise StudyError(
            f"{why}. Resume with what it was begun with, or train in another folder; {path} is left as it is."
        )
    _logger.warning("%s: the training begins anew.", why)
    return None


def describe_training(**what: object) -> dict[str, str]:
    """Return what a checkpoint is of, item by item in words; a dataclass is one item per field."""
    items: dict[str, str] = {}
    for name, value in what.items():
        if is_dataclass(value) and not isinstance(value, type):
            items |= {f"{name}.{key}": _in_words(one) for key, one in asdict(value).items()}
        else:
            items[name] = _in_words(value)
    return items


def _in_words(value: object) -> str:
    """Return text in which 1 and 1.0 are the same number, as a recipe's defaults and its file write it."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def random_states() -> dict[str, Any]:
    """Return those of Python, NumPy, torch and its GPUs, in types that `torch.load` takes without running code."""
    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 — timm draws from it
    return {
        "python": (version, list(numbers), gauss),
        "numpy": (str(kind), torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_states(states: Mapping[str, Any]) -> None:
    """Draw from here on as after `random_states` was taken."""
    version, numbers, gauss = states["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if len(states["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(states["cuda"])
