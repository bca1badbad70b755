"""Start Python with another package folder, cache or environment, and read what it prints."""

from __future__ import annotations

import os
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
