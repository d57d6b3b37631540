"""`Device`: what a latency was measured on, without the machine's name."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from pydantic import PositiveInt

CPUINFO = Path("/proc/cpuinfo")  # Linux's list of processors
BOARD = Path("/proc/device-tree/model")  # Linux's name of a single-board computer
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """A processor (CPU, GPU, a phone's) with the software that runs networks on it."""

    processor: str  # the model, as the maker names it
    cores: int | None = None  # how many this process may use; None where they say nothing (a GPU) or are not known
    threads: PositiveInt | None = None  # how many one network uses; None like the cores
    runtime: str  # name and version of what runs the network
    optimization: str  # what the runtime does to the graph
    governor: str | None = None  # the processor's frequency policy; None where it cannot be read
    system: str | None = None  # operating system and instruction set; None where it is not known

    @property
    def text(self) -> str:
        """Short, for tables: "AMD EPYC 9R14, 1 thread, onnxruntime 1.31.1"; "NVIDIA A10, onnxruntime 1.31.1 CUDA"."""
        threads = "" if self.threads is None else f"{self.threads} thread{'s' if self.threads != 1 else ''}, "
        return f"{self.processor}, {threads}{self.runtime}"

    def differences(self, other: Device) -> tuple[str, ...]:
        """Return why latencies of the two cannot be compared, a text per reason ("runtime: 'a' against 'b'").

        Cores, governor and system are for the reader: a ratio to a reference does not follow them.
        """
        return tuple(
            f"{name}: {_shown(getattr(self, name))} against {_shown(getattr(other, name))}"
            for name in ("processor", "threads", "runtime", "optimization")
            if getattr(self, name) != getattr(other, name)
        )


def _shown(value: object) -> str:
    return "not known" if value is None else repr(value)


def device_fingerprint(
    *, threads: int | None = 1, runtime: str | None = None, optimization: str = "all", processor: str | None = None
) -> Device:
    """Return this machine, by default with ONNX Runtime on its processor; `processor` names another (a GPU)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return Device(
        processor=processor or processor_name(),
        cores=cores if processor is None else None,
        threads=threads,
        runtime=runtime or f"onnxruntime {onnxruntime_version()}",
        optimization=optimization,
        governor=_read_line(_GOVERNOR) if processor is None else None,
        system=f"{platform.system()} {platform.machine()}",
    )


def processor_name() -> str:
    """Return the processor's model: Linux's on x86, else the board's (ARM), else the Mac's, else what Python knows."""
    named = re.search(r"^model name\s*:\s*(.+)$", _read_text(CPUINFO), re.MULTILINE)
    name = named[1] if named else _read_line(BOARD) or _mac_processor() or platform.processor() or platform.machine()
    return " ".join(re.sub(r"\((R|TM)\)", "", name).split()) or "unknown processor"


def vector_width() -> int:
    """Return the float32 channels in one of the widest vectors: 16 with AVX-512, 8 on other x86, 4 with NEON.

    It is also the block in which ONNX Runtime keeps channels on x86 (NCHWc).
    """
    if re.search(r"^flags\s*:.*\bavx512f\b", _read_text(CPUINFO), re.MULTILINE):
        return 16
    return 8 if platform.machine().lower() in ("x86_64", "amd64") else 4


def onnxruntime_version() -> str:
    """Return the module's own version: its package may be onnxruntime or onnxruntime-gpu."""
    import onnxruntime

    return str(onnxruntime.__version__)


def _mac_processor() -> str | None:
    if platform.system() != "Darwin":
        return None
    command = ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - fixed
    except (OSError, subprocess.CalledProcessError):
        return None


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _read_line(path: Path) -> str | None:
    return _read_text(path).strip("\0\n ") or None
