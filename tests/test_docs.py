"""The program in docs/vectors.md runs as it stands there and prints what stands there; its table names all there is."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from minicnn.kernels.fast import simd

PAGE = Path(__file__).resolve().parents[1] / "docs/vectors.md"


@pytest.fixture
def page():
    return PAGE.read_text(encoding="utf-8")


def test_the_program_prints_what_stands_below_it(page, capsys):
    [(code, printed)] = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    names = {"__name__": "page"}
    exec(compile(code, "docs/vectors.md", "exec"), names)
    assert capsys.readouterr().out == printed
    rng = np.random.default_rng(1)
    for size in [*range(40), 1000]:
        a, b = rng.standard_normal((2, size))
        assert names["distance"](a, b) == pytest.approx(np.linalg.norm(a - b), rel=1e-14)


def test_the_table_names_every_function(page):
    functions = {name for name, value in vars(simd).items() if getattr(value, "__module__", "") == simd.__name__
                 and callable(value) and not name.startswith("_") and value.__doc__}
    named = set(re.findall(r"`(\w+)[`(]", page.split("## What there is")[1].split("##")[0]))
    assert functions <= named
    assert len(functions) > 10
