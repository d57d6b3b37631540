"""`peers`: other networks of timm on a device, beside which a front is to be seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pandas as pd

from starsearch.errors import EvaluationError
from starsearch.families.timm import TIMM
from starsearch.latency.measure import MeasureSpec
from starsearch.latency.peers import cache_file, measure_peers, peer_table, published_peers, read_measured
from starsearch.latency.prediction.profile import load_profile
from starsearch.latency.reference import calibrate_reference
from starsearch.progress import Progress, follow, ignore
from starsearch.resources import find_file, shipped_names


def peers(
    device: str | None = None, names: Sequence[str] = (), *, watch: Callable[[Progress], None] = ignore
) -> tuple[pd.DataFrame, str]:
    """Return the table of other networks (`peer_table`, with `reason` where one was not measured) and the device.

    What was not measured here yet is measured, alone on this machine, and kept for the next time and for studies'
    reports. What ships with a profile is known for that profile alone.

    Args:
        device: a profile, beside which it is kept unless it is a shipped one; None for ONNX Runtime here on one thread.
        names: timm's names; by default those with a published top-1 that starsearch knows.

    Raises:
        EvaluationError: the profile is of another machine, and nothing was measured there.
    """
    names = list(dict.fromkeys(name.strip().removeprefix(TIMM) for name in names)) or list(published_peers().index)
    profile = None if device is None else load_profile(find_file(device, "profiles"))
    file, with_shipped = cache_file(device), device in shipped_names("profiles")
    if profile is None:
        spec = MeasureSpec(reference=calibrate_reference())
    elif profile.reference is None:
        raise EvaluationError(
            f"The profile {profile.name!r} holds figures from elsewhere: peers are measured in pairs."
        )
    else:
        spec = MeasureSpec.like(profile.backend, profile.device, reference=profile.reference)
    assert spec.reference is not None
    text, reasons = spec.reference.device.text, dict[str, str]()
    known = read_measured(file, text, with_shipped=with_shipped).index
    try:
        spec.reference.check_device(spec.open_backend().describe_device())
    except EvaluationError:
        if known.empty:
            raise
    else:
        reasons = follow(measure_peers([name for name in names if name not in known], spec, file), watch)
    table = peer_table(file, text, with_shipped=with_shipped, reference_ms=spec.reference.ms, names=names)
    return table.assign(reason=[reasons.get(name, "") for name in table["name"]]), text
