"""What the suite has proved, counted while it runs.

A test calls ``record`` after its last assertion. The session's closing section prints the counts, and a run of the
whole suite that made fewer checks than ``SECTIONS`` asks for is red: a suite that silently skips proves nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple


class Section(NamedTuple):
    """What the whole suite must reach; ``needs`` names what a machine may lack (see conftest's CAPABILITIES)."""

    minimum: int
    without_jit: int
    needs: tuple[str, ...] = ()


SECTIONS = {
    "conv geometries": Section(1200, 110),
    "pooling geometries": Section(600, 50),
    "dense geometries": Section(150, 30),
    "gradients": Section(886, 886),
    "laws": Section(36400, 20000),
    "parity": Section(1510, 1250, needs=("torch", "keras")),
    "training curves": Section(16, 16, needs=("keras",)),
    "mistakes tried": Section(376, 376),
    "mistakes caught": Section(376, 376),
    "diagnoses tried": Section(170, 170),
    "diagnoses right": Section(162, 162),
    "right layers": Section(500, 400),
    "contract clauses": Section(476, 476),
    "indices checked": Section(40, 0),
    "bad input": Section(752, 752),
    "damage": Section(6412, 6412),
    "files fuzzed": Section(1600, 1600),
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
        The largest error among them, of "parity" as a share of what is allowed.
    klass : str, optional
        What they are counted under within the section, such as "linear".
    """
    if section not in SECTIONS:
        raise ValueError(f"record got the section {section!r}; expected one of {list(SECTIONS)}")
    if count < 1:
        raise ValueError(f"record got count={count} for {section!r}; expected at least 1")
    TALLIES.setdefault(section, {}).setdefault(klass, Tally()).add(count, worst)


Record = tuple[str, str | None, int, int, float | None]  # section, klass, count, calls, worst


def records() -> list[Record]:
    """Return all that was counted, in types that another process can read."""
    return [(section, klass, tally.count, tally.calls, tally.worst)
            for section, tallies in TALLIES.items() for klass, tally in tallies.items()]


def take_over(others: Iterable[Record]) -> None:
    """Add what another process has counted."""
    for section, klass, count, calls, worst in others:
        tally = TALLIES.setdefault(section, {}).setdefault(klass, Tally())
        tally.add(count, worst)
        tally.calls += calls - 1


def total(section: str) -> int:
    """Return the number of checks counted in a section."""
    return sum(tally.count for tally in TALLIES.get(section, {}).values())


def shortfalls(without_jit: bool, present: Callable[[str], bool]) -> list[str]:
    """Return a line for each section below its minimum; ``present(name)`` tells whether this machine has a thing."""
    lines = []
    for name, section in SECTIONS.items():
        minimum = section.without_jit if without_jit else section.minimum
        if total(name) < minimum and all(map(present, section.needs)):
            lines.append(f"{name}: {total(name):,} checked, fewer than the {minimum:,} of the whole suite")
    return lines


def lines() -> list[str]:
    """Return the closing section: a line for each thing that was recorded."""
    exact = [f"{total(f'{kind} geometries'):,} {kind}" for kind in ("conv", "pooling", "dense")
             if total(f"{kind} geometries")]
    found = {
        "bit-exact": exact and f"{', '.join(exact)} geometries: both kernel sets give what loops over indices give",
        "gradients": _said("gradients", "{:,} in float64; largest error: ", "{klass} {worst:.1e}"),
        "laws": _said("laws", f"{_calls('laws')}, obeyed in {{:,}} drawn examples"),
        "parity": _said("parity", "{:,} comparisons in float32; largest error as a share of what is allowed: ",
                        "{worst:.2f} beside {klass}"),
        "training curves": _said("training curves", "{:,} beside those of Keras; largest difference of losses: ",
                                 "{worst:.1e}"),
        "mistakes": _share("mistakes", "caught", "planted in the source were caught"),
        "diagnosis": _share("diagnoses", "right", "wrong gradients were called what they are"),
        "false alarms": _said("right layers", "none, on {:,} right layers"),
        "contract": _said("contract clauses", f"{{:,}} clauses kept, by {_calls('contract clauses')} layers"),
        "bad input": _kinds("bad input", "{:,} bad files and calls refused with a message that helps"),
        "damage": _said("damage", "{:,} flipped bits and cuts of a model file found"),
        "fuzzing": _kinds("files fuzzed", "{:,} files made at random, none of which led to an error but our own"),
        "bounds": _said("indices checked", "every index checked, in {:,} geometries"),
    }
    return [f"{name + ':':<16} {text}" for name, text in found.items() if text]


def _calls(section: str) -> int:
    return sum(tally.calls for tally in TALLIES.get(section, {}).values())


def _said(section: str, form: str, each: str = "") -> str:
    """Return the count of a section in a sentence, and the worst value of each class; nothing if none is counted."""
    classes = sorted(TALLIES.get(section, {}).items(), key=lambda item: str(item[0]))
    worst = [each.format(klass=klass, worst=tally.worst) for klass, tally in classes if tally.worst is not None]
    return form.format(total(section)) + ", ".join(worst) if classes else ""


def _kinds(section: str, form: str) -> str:
    """Return the count of a section in a sentence, and that of each class."""
    parts = [f"{klass} {tally.count:,}" for klass, tally in TALLIES.get(section, {}).items()]
    return f"{form.format(total(section))} ({', '.join(parts)})" if parts else ""


def _share(section: str, good: str, what: str) -> str:
    """Return how many of those tried were good, in all and by class."""
    tried, passed = (TALLIES.get(f"{section} {kind}", {}) for kind in ("tried", good))
    parts = [f"{klass} {passed[klass].count if klass in passed else 0} of {tally.count}"
             for klass, tally in tried.items() if klass is not None]
    every = f"{total(f'{section} {good}')} of {total(f'{section} tried')} {what}" if tried else ""
    return every + (f" ({', '.join(parts)})" if parts else "")
