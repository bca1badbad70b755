"""Where a number was measured: versions and machine, for every result file."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
import sys
from pathlib import Path

import minicnn
from minicnn import kernels
from minicnn.kernels.threads import get_threads


def versions(*more: str) -> dict[str, str]:
    """Return the versions of Python, minicnn, what it computes with, and ``more`` packages."""
    found = {"python": platform.python_version(), "minicnn": minicnn.__version__}
    for name in ("numpy", "numba", *more):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def machine() -> dict[str, str | int]:
    """Return the system, the processor and what minicnn uses of it."""
    return {"system": platform.platform(terse=True), "processor": processor(), "threads": get_threads(),
            "kernels": kernels.active()}


def processor() -> str:
    """Return the processor's name as its maker writes it, or the best the system knows."""
    try:
        if sys.platform == "linux":
            for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
        elif sys.platform == "darwin":
            return subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True,
                                  check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass
    return platform.processor() or platform.machine()
