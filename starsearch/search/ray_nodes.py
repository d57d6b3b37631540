"""A node of a cluster, and what it must be like to evaluate: the versions, the data, the study's folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError

_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A live node of the cluster.

    Attributes:
        id: Ray's.
        name: its address, for messages.
        resources: all it has, by Ray's names.
    """

    id: str
    name: str
    resources: Mapping[str, float]

    def fits(self, wanted: Mapping[str, float]) -> int:
        """How often it has what is wanted."""
        return min(int(self.resources.get(name, 0.0) / amount + _ROUNDING) for name, amount in wanted.items())


def host_identity() -> str:
    """Of the machine this runs on, the same for all its processes until it is started anew."""
    boot = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{socket.gethostname()} {boot}"


def versions() -> dict[str, str]:
    """Of what driver and workers must agree on."""
    import platform

    import torch

    import starsearch

    return {
        "Python": ".".join(platform.python_version_tuple()[:2]),
        "starsearch": starsearch.__version__,
        "torch": str(torch.__version__),
    }


def look_around(evaluator: Any, folder: str | None) -> dict[str, Any]:
    """Runs on a node: what it is, and what it sees."""
    from starsearch.latency import device_fingerprint

    trouble = None
    check = getattr(evaluator, "check", None)
    if check is not None:
        try:
            check()
        except Exception as error:  # whatever the data's library raises
            trouble = f"{type(error).__name__}: {error}"
    sees = folder is None or os.path.isdir(folder)  # noqa: PTH112 — a string from another machine
    return {
        "host": host_identity(),
        "device": device_fingerprint().text,
        "versions": versions(),
        "data": trouble,
        "folder": sees,
        "folder_name": folder,
    }


def refuse_stranger(
    node: str, answer: Mapping[str, Any], mine: Mapping[str, str], *, device: str | None = None
) -> None:
    """Refuse a node that cannot evaluate.

    Args:
        node: its name.
        answer: of `look_around` there.
        mine: the driver's `versions`.
        device: what the study's latencies are measured on, where this node is to measure them.

    Raises:
        StudyError: other versions, no data, no folder, or another device.
    """
    differing = [f"{name} {answer['versions'][name]} against {mine[name]} here" for name in mine
                 if answer["versions"][name] != mine[name]]  # fmt: skip
    if differing:
        raise StudyError(
            f"The node {node} has other versions than the driver: {', '.join(differing)}. Install the same there (of "
            "starsearch alone: `ship_code: true` in the runner file)."
        )
    if answer["data"]:
        raise StudyError(
            f"The node {node} cannot read the data: {answer['data']}\nThe path must be the same on every node: "
            "put the data on a shared file system, or copy them to each node."
        )
    if not answer["folder"]:
        raise StudyError(
            f"The node {node} does not see the study's folder {answer['folder_name']}, where weights and "
            "checkpoints are written. Give an --out on a file system that all nodes share."
        )
    if device is not None and answer["device"] != device:
        raise StudyError(
            f"The node {node} carries the runner's device, but is another machine: {answer['device']}. The study's "
            f"latencies are those of {device}. Start that node without the device's resource, and run the same "
            "command again."
        )
