"""Suites of a few tests of their own, under this project's settings: the ground of the tests of conftest.py."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lay_out(folder: Path) -> None:
    """Copy what makes a folder a suite of this project."""
    (folder / "tests").mkdir()
    for name in ("setup.cfg", "tests/conftest.py", "tests/proof.py", "tests/sharing.py", "tests/gradient_rows.py"):
        shutil.copy(ROOT / name, folder / name)


def run(folder: Path, code: str, *arguments: str, shared: bool = False, **variables: str) -> tuple[int, str]:
    """Run a suite of one file, in one process unless it is to be ``shared``; return its exit status and output."""
    (folder / "tests/test_it.py").write_text(code)
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST_")}
    env |= {"MINICNN_REQUIRE": "", "NUMBA_DISABLE_JIT": "0", "PYTHONPATH": str(ROOT), **variables}
    alone = () if shared else ("-p", "no:xdist")
    result = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *alone, *arguments], cwd=folder,
                            env=env, capture_output=True, text=True, check=False)
    return result.returncode, result.stdout + result.stderr
