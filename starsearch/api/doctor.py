"""What this machine has for starsearch, and what it lacks: `examine`."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

from starsearch.errors import StarsearchError, first_line

_PACKAGE = "starnet-search"
_AGAIN = f"It does not work as it is installed: pip install --upgrade --force-reinstall {_PACKAGE}"
_GB = 1e9
_LEAST_GB = {"memory": 4, "disk": 5, "shared memory": 1}
_CGROUPS = tuple(Path("/sys/fs/cgroup", name) for name in ("memory.max", "memory/memory.limit_in_bytes"))
_SHARED = Path("/dev/shm")  # noqa: S108 - it is examined, not written
Found = tuple[str, str]  # what is found, and what is to be done; empty where nothing is


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was examined: what is found, what to do ("" where nothing is), and whether it works at all."""

    name: str
    found: str
    advice: str = ""
    works: bool = True


def examine(folder: Path = Path()) -> list[Finding]:
    """Return what is found on this machine, and of `folder`, in which studies are to be made; takes a few seconds."""
    from starsearch import __version__

    address, system = os.environ.get("RAY_ADDRESS"), platform.platform(terse=True)
    where = f"studies run at RAY_ADDRESS={address}" if address else "RAY_ADDRESS is not set"
    checks: dict[str, Callable[[], Found]] = {
        "starsearch": lambda: (f"{__version__}, Python {platform.python_version()} ({sys.executable}), {system}", ""),
        "processor": _processor,
        "memory": _memory,
        "disk": lambda: _disk(folder),
        "shared memory": _shared_memory,
        "PyTorch": _torch,
        "ONNX Runtime": _onnxruntime,
        "latency backends": _backends,
        "Core ML": _coreml,
        "Ray": lambda: (f"{version('ray')}, {where}", ""),
        "libraries": _libraries,
        "extras": _extras,
    }
    findings = []
    for name, check in checks.items():
        try:
            found, advice = check()
            findings.append(Finding(name=name, found=found, advice=advice))
        except Exception as error:  # a broken installation raises what it likes, and is what a doctor is asked about
            words = first_line(error) if isinstance(error, StarsearchError) else f"{type(error).__name__}: {error}"
            findings.append(Finding(name=name, found=words, advice=_AGAIN, works=False))
    return findings


def _processor() -> Found:
    from starsearch.latency.device import device_fingerprint

    device, advice = device_fingerprint(), ""
    cores = device.cores or 1
    if device.governor not in (None, "performance"):
        advice = f"Its clock follows the governor {device.governor!r}; latencies are steadier under 'performance'."
    if hasattr(os, "getloadavg") and os.getloadavg()[0] > max(1.0, cores / 2):
        advice = f"Its load is {os.getloadavg()[0]:.1f} now: measure latencies when it is idle. {advice}".strip()
    return f"{device.processor}, {cores} of {os.cpu_count()} logical cores for this process", advice


def _memory() -> Found:
    import psutil

    memory = psutil.virtual_memory()
    limits = [int(text) for path in _CGROUPS if path.is_file() and (text := path.read_text().strip()).isdigit()]
    total = min([memory.total, *limits])
    free = min(memory.available, total)
    small = "Trainings may be killed: close other programs, or take a smaller --batch-size and fewer --workers."
    limited = " (this container's limit)" if total < memory.total else ""
    return f"{free / _GB:.1f} of {total / _GB:.1f} GB free{limited}", _if_small("memory", free, small)


def _disk(folder: Path) -> Found:
    usage = shutil.disk_usage(folder)
    advice = _if_small("disk", usage.free, "Make room, or give --out a folder on another disk.")
    if not os.access(folder, os.W_OK):
        advice = "This folder cannot be written: give --out another one."
    return f"{usage.free / _GB:.1f} of {usage.total / _GB:.1f} GB free in {folder.resolve()}", advice


def _shared_memory() -> Found:
    if not _SHARED.is_dir():
        return "as the system gives it", ""
    total = shutil.disk_usage(_SHARED).total
    advice = "Processes that decode images need it: docker run --shm-size 8g, else fewer --workers."
    return f"{total / _GB:.1f} GB in {_SHARED}", _if_small("shared memory", total, advice)


def _if_small(what: str, amount: float, advice: str) -> str:
    return f"That is less than {_LEAST_GB[what]} GB. {advice}" if amount < _LEAST_GB[what] * _GB else ""


def _torch() -> Found:
    import torch

    found = f"{torch.__version__}, {torch.get_num_threads()} threads"
    if torch.cuda.is_available():
        gpus = [torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count())]
        names = ", ".join(f"{gpu.name} ({gpu.total_memory / _GB:.0f} GB)" for gpu in gpus)
        free = torch.cuda.mem_get_info()[0]  # also shows that the driver works
        return f"{found}, CUDA {torch.version.cuda} on {names}, {free / _GB:.0f} GB of the first free", ""
    advice = ""
    if shutil.which("nvidia-smi"):
        advice = (
            "There is an NVIDIA driver, and this PyTorch finds no GPU to use: see what nvidia-smi says, then "
            "CUDA_VISIBLE_DEVICES, then whether its build fits the driver (https://pytorch.org/get-started/locally)."
        )
    if torch.backends.mps.is_available():
        return f"{found}, MPS usable, but trainings run on the processor", advice
    return f"{found}, on the processor (no CUDA, no MPS)", advice


def _onnxruntime() -> Found:
    import onnxruntime

    both = _version("onnxruntime") and _version("onnxruntime-gpu")
    advice = "onnxruntime and onnxruntime-gpu overwrite each other: uninstall both, then install one." if both else ""
    return f"{onnxruntime.__version__}, {', '.join(onnxruntime.get_available_providers())}", advice


def _backends() -> Found:
    from starsearch.latency.backends.backend import missing_by_backend

    missing = missing_by_backend()
    ready, absent = (", ".join(name for name in missing if bool(missing[name]) is lacks) for lacks in (False, True))
    return f"{ready}; not here: {absent} (starsearch latency backends says why)", ""


def _coreml() -> Found:
    found, macos = _version("coremltools"), platform.mac_ver()[0]
    where = f"macOS {macos}" if macos else f"{platform.system()}, where packages are written and cannot run"
    advice = f'Install it: pip install "{_PACKAGE}[coreml]"' if macos and not found else ""
    return f"coremltools {found or 'not installed'}, {where}", advice


def _libraries() -> Found:
    wrong = [words for words in _lacking("") if words]
    if wrong:
        raise StarsearchError("; ".join(wrong))
    return ", ".join(f"{name} {version(name)}" for name in ("optuna", "timm", "onnx", "botorch", "pandas")), ""


def _extras() -> Found:
    if _version(_PACKAGE) is None:
        return "not known: starsearch runs from a folder that pip did not install", ""
    extras = distribution(_PACKAGE).metadata.get_all("Provides-Extra") or []
    lacking = {name: "; ".join(_lacking(name)) for name in extras if name != "dev"}
    how = f'; pip install "{_PACKAGE}[NAME]" adds one' if any(lacking.values()) else ""
    return ", ".join(f"{name} ({lacks or 'installed'})" for name, lacks in lacking.items()) + how, ""


def _lacking(extra: str) -> Iterator[str]:
    """Yield each requirement of an extra, or of the package itself (""), that is not met: "timm 0.9, not >=1.0.31"."""
    from packaging.requirements import Requirement

    if _version(_PACKAGE) is None:
        return
    for one in map(Requirement, distribution(_PACKAGE).requires or ()):
        belongs = one.marker is None if not extra else one.marker and "extra" in str(one.marker)
        if belongs and (one.marker is None or one.marker.evaluate({"extra": extra})):
            found = _version(one.name)
            if found is None or not one.specifier.contains(found, prereleases=True):
                yield f"{one.name} {found or 'is missing'}, {one.specifier} is needed"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
