"""Suites of a few tests of their own, under this project's settings: the ground of the tests of conftest.py."""

from __future__ import annotations

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lay_out(folder: Path) -> None:
    """Copy what makes a folder a suite of this project."""
    (folder / "tests").mkdir()
    for name in ("setup.cfg", "tests/conftest.py", "tests/proof.py", "tests/gradient_rows.py"):
        shutil.copy(ROOT / name, folder / name)
