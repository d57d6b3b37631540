"""The iPhone attached to this Mac, as Apple's devicectl describes it."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from starsearch.errors import EvaluationError

_TIMEOUT_S = 60  # it waits for phones that answer slowly


@dataclass(frozen=True, slots=True, kw_only=True)
class Iphone:
    """A phone, without the name that its owner gave it (which is all that coremltools knows).

    Attributes:
        model: as Apple sells it: "iPhone 15 Pro".
        ios: version of its system: "18.1".
    """

    model: str
    ios: str


@cache
def attached_iphone() -> Iphone:
    """The connected iPhone that devicectl lists first; asked once a process, except where none was found.

    Raises:
        EvaluationError: no iPhone is connected, or devicectl cannot tell.
    """
    with tempfile.TemporaryDirectory(prefix="starsearch-") as folder:
        file = Path(folder) / "devices.json"
        command = ["xcrun", "devicectl", "list", "devices", "--json-output", str(file)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=_TIMEOUT_S)  # noqa: S603 - fixed
            phone = first_connected(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, subprocess.SubprocessError, ValueError) as error:
            raise EvaluationError(
                f"Apple's devicectl cannot say which iPhones are connected ({error}); see what `xcrun devicectl list "
                "devices` prints."
            ) from error
    if phone is None:
        raise EvaluationError(
            "No iPhone is connected. Attach one by cable, unlock it, trust this Mac, switch on its developer mode "
            "(Settings, Privacy & Security), and see that `xcrun devicectl list devices` calls it connected."
        )
    return phone


def first_connected(listed: Mapping[str, Any]) -> Iphone | None:
    """The first iPhone that is connected, of what `devicectl list devices` writes as JSON; None where there is none."""
    for device in listed.get("result", {}).get("devices", []):
        hardware, software = device.get("hardwareProperties", {}), device.get("deviceProperties", {})
        connected = str(device.get("connectionProperties", {}).get("tunnelState", "")).lower() == "connected"
        if connected and str(hardware.get("deviceType", "")).lower() == "iphone":
            model = hardware.get("marketingName") or hardware.get("productType") or "iPhone"
            return Iphone(model=str(model), ios=str(software.get("osVersionNumber") or "of unknown version"))
    return None
