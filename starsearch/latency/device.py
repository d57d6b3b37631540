"""`Device`: what a latency was measured on, without the machine's name."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_BOARD = Path("/proc/device-tree/model")
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor (CPU, GPU, a phone's) with the software that runs networks on it.

    Attributes:
        processor: the model, as the maker names it.
        cores: that this process may use; None where they say nothing (a GPU) or are not known.
        threads: that one network uses; None as with the cores.
        runtime: name and version of what runs the network.
        optimization: of the graph by the runtime.
        governor: of the processor's frequency; None where it cannot be read.
        system: operating system and instruction set; None where it is not known.
    """

    processor: str
    cores: int | None
    threads: int | None
    runtime: str
    optimization: str
    governor: str | None
    system: str | None

    @property
    def text(self) -> str:
        """Short, for tables: "AMD EPYC 9R14, 1 thread, onnxruntime 1.31.1"; "NVIDIA A10, onnxruntime 1.31.1 CUDA"."""
        threads = "" if self.threads is None else f"{self.threads} thread{'s' if self.threads != 1 else ''}, "
        return f"{self.processor}, {threads}{self.runtime}"

    def differences(self, other: Device) -> tuple[str, ...]:
        """Why latencies of the two cannot be compared, a text a reason ("runtime: 'a' against 'b'").

        Cores, governor and system are for the reader: a ratio to a reference does not follow them.
        """
        return tuple(
            f"{name}: {getattr(self, name)!r} against {getattr(other, name)!r}"
            for name in ("processor", "threads", "runtime", "optimization")
            if getattr(self, name) != getattr(other, name)
        )


def device_fingerprint(
    *, threads: int | None = 1, runtime: str | None = None, optimization: str = "all", processor: str | None = None
) -> Device:
    """This machine, by default with ONNX Runtime on its processor as `starsearch.latency.onnxruntime` sets it up.

    Args:
        threads: that one network uses; None where it does not run on the processor's threads.
        runtime: name and version of what runs the network.
        optimization: of the graph by the runtime.
        processor: that runs the network, where it is not the machine's CPU.
    """
    return Device(
        processor=processor or processor_name(),
        cores=usable_cores() if processor is None else None,
        threads=threads,
        runtime=runtime or f"onnxruntime {onnxruntime_version()}",
        optimization=optimization,
        governor=_read_line(_GOVERNOR) if processor is None else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def processor_name(cpuinfo: Path = _CPUINFO, board: Path = _BOARD) -> str:
    """The processor's model: Linux's on x86, else the board's (ARM), else the Mac's, else what Python knows.

    Args:
        cpuinfo: Linux's list of processors.
        board: Linux's name of a single-board computer.
    """
    named = re.search(r"^model name\s*:\s*(.+)$", _read_text(cpuinfo) or "", re.MULTILINE)
    name = named[1] if named else _read_line(board) or _mac_processor() or platform.processor() or platform.machine()
    return " ".join(re.sub(r"\((R|TM)\)", "", name).split()) or "unknown processor"


def _mac_processor() -> str | None:
    if platform.system() != "Darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError):
        return None


def onnxruntime_version() -> str:
    """Of the module itself: it may be installed as the package onnxruntime or as onnxruntime-gpu."""
    import onnxruntime

    return str(onnxruntime.__version__)


def usable_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read_text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _read_line(path: Path) -> str | None:
    text = _read_text(path)
    return text.strip("\0\n ") or None if text else None


def vector_width(cpuinfo: Path = _CPUINFO, *, machine: str = platform.machine()) -> int:
    """Float32 channels in one of the processor's widest vectors: 16 with AVX-512, 8 on other x86, 4 with NEON.

    It is also the block in which ONNX Runtime keeps channels on x86 (NCHWc). Where Linux's list of processors says
    nothing, the instruction set decides.

    Args:
        cpuinfo: Linux's list of processors.
        machine: instruction set, as `platform.machine` names it.
    """
    if re.search(r"^flags\s*:.*\bavx512f\b", _read_text(cpuinfo) or "", re.MULTILINE):
        return 16
    return 8 if machine.lower() in ("x86_64", "amd64") else 4
