"""A training between two epochs, as a file: what it takes to go on as if it had never stopped."""

from __future__ import annotations

import logging
import random
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from starsearch.errors import StudyError

_VERSION = 1
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A training after an epoch.

    Attributes:
        of: what is trained, on what and from which seed, in words; another training's is not taken.
        epoch: the last one trained, from 1.
        accuracy: validated after it, `Accuracy` by field.
        trained_s: seconds of training so far.
        num_images: trained on so far.
        optimisation: `Optimisation.state`.
        random: `random_states`.
    """

    of: str
    epoch: int
    accuracy: Mapping[str, Any]
    trained_s: float
    num_images: int
    optimisation: Mapping[str, Any]
    random: Mapping[str, Any]


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
            f"The checkpoint {path.name} cannot be written: {said}. The one before is kept, and the candidate runs "
            "again from it: make room in the study's folder and run the same command."
        ) from error


def load_checkpoint(path: Path, *, of: str) -> Checkpoint | None:
    """The checkpoint in the file, on the CPU; None where there is none of this training that can be read."""
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        return None
    except Exception as error:  # a damaged file raises what its bytes happen to hit
        _logger.warning("The checkpoint %s cannot be read (%s): the training begins anew.", path.name, error)
        return None
    if found.pop("version", None) != _VERSION or found.get("of") != of:
        _logger.warning("The checkpoint %s is of another training or version: this one begins anew.", path.name)
        return None
    return Checkpoint(**found)


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


def describe_training(**what: object) -> str:
    """What a checkpoint is of, in words; dataclasses by their fields."""
    return "; ".join(f"{name}: {asdict(v) if hasattr(v, '__dataclass_fields__') else v}" for name, v in what.items())  # type: ignore[call-overload]
