"""What a benchmark ran on: hardware, versions, commit."""

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any


def describe(device: str) -> dict[str, Any]:
    """Describes the machine.

    Args:
        device: ``cpu`` or ``gpu``.

    Returns:
        Processor, cores, memory, the device's name, and how busy the machine was.
    """
    cpu, memory = _field("/proc/cpuinfo", "model name"), _field("/proc/meminfo", "MemTotal")
    huge = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    return {
        "device": device,
        "device_kind": gpu_name() if device == "gpu" else cpu,
        "cpu": cpu,
        "cpu_family_model": [_field("/proc/cpuinfo", name) for name in ("cpu family", "model")],
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": int(memory.split()[0]) * 1024 if memory else None,
        "transparent_hugepage": huge.read_text().strip() if huge.exists() else None,
        "load_average_before": os.getloadavg(),
        "system": platform.platform(),
        "libc": " ".join(platform.libc_ver()),
    }


def memory_bytes() -> int:
    """Memory of the machine that nobody uses."""
    available = _field("/proc/meminfo", "MemAvailable")
    return int(available.split()[0]) * 1024 if available else 0


def gpu_name() -> str | None:
    """Name of the first NVIDIA GPU, None where there is none."""
    try:
        found = _output("nvidia-smi", "--query-gpu=name", "--format=csv,noheader")
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.split("\n")[0].strip() or None


def slug(hardware: dict[str, Any]) -> str:
    """A name for files: ``cpu-2``, two cores of a CPU, or ``nvidia-h100-80gb-hbm3``."""
    if hardware["device"] == "cpu":
        return f"cpu-{hardware['cores']}"
    return re.sub(r"[^a-z0-9]+", "-", (hardware["device_kind"] or "gpu").lower()).strip("-")


# Dense bfloat16, in TFLOP/s, as the maker states it.
PEAK_TFLOPS = {"NVIDIA H100 80GB HBM3": 989.0, "NVIDIA H200": 989.0}


def peak_tflops(hardware: dict[str, Any]) -> float | None:
    """The device's peak in bfloat16, None where it is not known."""
    return PEAK_TFLOPS.get(hardware["device_kind"]) if hardware["device"] == "gpu" else None


def versions() -> dict[str, str]:
    """Versions of Python and of every installed package."""
    found = {d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}
    return {"python": platform.python_version(), **dict(sorted(found.items()))}


def commit() -> str | None:
    """The checkout's commit, with ``+`` where files differ from it; None outside a checkout."""
    folder = Path(__file__).resolve().parent
    try:
        head = _output("git", "-C", str(folder), "rev-parse", "HEAD").strip()
        changed = _output("git", "-C", str(folder), "status", "--porcelain", "-uno").strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")


def _field(path: str, name: str) -> str | None:
    """The first value of a field of a file in /proc."""
    file = Path(path)
    lines = file.read_text().split("\n") if file.exists() else []
    fields = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in fields if key.strip() == name), None)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
