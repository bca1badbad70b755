"""What the suite has proved, counted while it runs.

A test calls ``record`` after its last assertion. The session's closing section prints the counts, and a run of the
whole suite that made fewer checks than ``SECTIONS`` asks for is red: a suite that silently skips proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import NamedTuple


class Section(NamedTuple):
    """What the whole suite must reach; ``needs`` names what a machine may lack (see conftest's CAPABILITIES)."""

    minimum: int
    without_jit: int
    needs: tuple[str, ...] = ()


SECTIONS = {
    "conv geometries": Section(1200, 110),
    "pooling geometries": Section(450, 40),
    "dense geometries": Section(150, 30),
    "gradients": Section(840, 840),
    "laws": Section(34000, 18700),
    "parity": Section(1040, 1040, needs=("torch", "keras")),
    "mistakes caught": Section(120, 120),
    "mistakes tried": Section(120, 120),
}


class Tally:
    """The calls of one class within one section, added up."""

    def __init__(self) -> None:
        self.count = 0
        self.calls = 0
        self.worst: float | None = None

    def add(self, count: int, worst: float | None) -> None:
        self.count += count
        self.calls += 1
        if worst is not None:
            known = [float(worst)] if self.worst is None else [float(worst), self.worst]
            self.worst = math.nan if any(map(math.isnan, known)) else max(known)


TALLIES: dict[str, dict[str | None, Tally]] = {}


def record(section: str, count: int = 1, worst: float | None = None, klass: str | None = None) -> None:
    """Count checks that passed.

    Parameters
    ----------
    section : str
        A key of ``SECTIONS``.
    count : int
        How many checks. Of "laws", one call is one property and ``count`` its examples.
    worst : float, optional
        The largest error (or ratio of errors) among them.
    klass : str, optional
        What they are counted under within the section, such as "linear".
    """
    if section not in SECTIONS:
        raise ValueError(f"record got the section {section!r}; expected one of {list(SECTIONS)}")
    if count < 1:
        raise ValueError(f"record got count={count} for {section!r}; expected at least 1")
    TALLIES.setdefault(section, {}).setdefault(klass, Tally()).add(count, worst)


def total(section: str) -> int:
    """Return the number of checks counted in a section."""
    return sum(tally.count for tally in TALLIES.get(section, {}).values())


def shortfalls(without_jit: bool, present: Collection[str]) -> list[str]:
    """Return a line for each section below its minimum; ``present`` names what this machine has."""
    lines = []
    for name, section in SECTIONS.items():
        minimum = section.without_jit if without_jit else section.minimum
        if set(section.needs) <= set(present) and total(name) < minimum:
            lines.append(f"{name}: {total(name):,} checked, fewer than the {minimum:,} of the whole suite")
    return lines


def lines() -> list[str]:
    """Return the closing section: a line for each thing that was recorded."""
    exact = [f"{total(f'{kind} geometries'):,} {kind}" for kind in ("conv", "pooling", "dense")
             if total(f"{kind} geometries")]
    out = [f"bit-exact: {', '.join(exact)} geometries"] if exact else []
    if total("gradients"):
        out.append(f"gradients: {total('gradients'):,} checked{_worst('gradients', 'largest error', '.1e')}")
    if total("laws"):
        properties = sum(tally.calls for tally in TALLIES["laws"].values())
        out.append(f"laws: {properties} properties, {total('laws'):,} examples")
    if total("parity"):
        out.append(f"parity: {total('parity'):,} configurations{_worst('parity', 'largest ratio of errors', '.2f')}")
    if total("mistakes tried"):
        out.append(f"mistakes: {total('mistakes caught')} caught of {total('mistakes tried')} tried")
    return out


def _worst(section: str, what: str, form: str) -> str:
    """Return the worst value of each class that has one."""
    parts = [f"{'' if klass is None else klass + ' '}{tally.worst:{form}}"
             for klass, tally in TALLIES[section].items() if tally.worst is not None]
    return f"; {what}: {', '.join(parts)}" if parts else ""
