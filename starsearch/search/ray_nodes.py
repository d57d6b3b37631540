"""What a node of a cluster must be like to evaluate: the driver's versions, the data, the study's folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from starsearch.errors import StudyError


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
    trouble = None
    check = getattr(evaluator, "check", None)
    if check is not None:
        try:
            check()
        except Exception as error:  # whatever the data's library raises
            trouble = f"{type(error).__name__}: {error}"
    sees = folder is None or os.path.isdir(folder)  # noqa: PTH112 — a string from another machine
    return {"host": host_identity(), "versions": versions(), "data": trouble, "folder": sees, "folder_name": folder}


def refuse_stranger(node: str, answer: Mapping[str, Any], mine: Mapping[str, str]) -> None:
    """Refuse a node that cannot evaluate.

    Args:
        node: its name.
        answer: of `look_around` there.
        mine: the driver's `versions`.

    Raises:
        StudyError: other versions, no data or no folder.
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
