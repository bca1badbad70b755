"""Start Python with another package folder, cache or environment, and read what it prints."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any


def start(tree: Path, cache: Path | None, program: str, **changes: str | None) -> subprocess.Popen:
    env = os.environ | {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "error"}
    if cache is not None:
        env["MINICNN_CACHE_DIR"] = str(cache)
    for name, value in changes.items():
        env.pop(name, None)
        if value is not None:
            env[name] = value
    return subprocess.Popen([sys.executable, "-c", program], env=env, cwd=tree, text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen, patience: int = 120) -> str:
    """Return what it printed. ``patience`` in seconds, far beyond what it needs: a process that hangs is an error."""
    output, errors = process.communicate(timeout=patience)
    assert process.returncode == 0, errors
    assert errors == ""
    return output.strip()


def run(*args: Any, **changes: Any) -> str:
    return finish(start(*args, **changes))


def noted(*args: Any, **changes: Any) -> tuple[str, list[str]]:
    """Return what a process printed, and why it says, in each of its warnings, that it keeps no compiled kernels."""
    process = start(*args, **changes, PYTHONWARNINGS="always")
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    notes = re.findall(r"UserWarning: Compiled kernels cannot be kept \((.*)\); .* Set MINICNN_CACHE_DIR to", errors)
    assert len(notes) == errors.count("Warning:"), errors
    return output.strip(), notes
