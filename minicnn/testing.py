"""Does a layer keep the contract? One examination for every layer, built-in or the reader's own.

What the model, the optimizers, the gradient check and saving rely on is written down here as clauses, and each is
tried on copies of the layer: see the table that ``print(check_layer_contract(layer, input_shape))`` gives. The clauses
themselves stand in ``_contract_clauses.py`` and ``_contract_settings.py``.
"""

from __future__ import annotations

import collections
import itertools
import textwrap
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from minicnn import _contract_clauses, _contract_settings  # noqa: F401 - they fill CLAUSES
from minicnn._contract_subject import CLAUSES, Clause, Finding, Subject, kernel_set
from minicnn.errors import ArgumentError, MinicnnError, ShapeError
from minicnn.layers.base import Layer

__all__ = ["ClauseResult", "ContractError", "ContractReport", "Violation", "check_layer_contract"]

OK = "ok"
BROKEN = "BROKEN"
NOT_TRIED = "not tried"
WIDTH = 105     # of the text of a violation


@dataclass(frozen=True)
class Violation:
    """One way in which a layer breaks the contract.

    Attributes
    ----------
    clause : str
        The clause's name.
    expected, found, advice : str
        What must be, what is, what to do about it.
    sets : tuple of str
        The kernel sets under which it was seen.
    """

    clause: str
    expected: str
    found: str
    advice: str
    sets: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join([self.clause, *self.lines()])

    def lines(self, advise: bool = True) -> list[str]:
        """Return the labelled lines; without ``advise`` only what was expected and found."""
        only = f" (with {self.sets[0]} kernels only)" if len(self.sets) == 1 else ""
        parts = [("expected", self.expected + only), ("found", self.found), ("to do", self.advice)]
        lines = []
        for label, text in parts if advise else parts[:-1]:
            # What has lines of its own is a table.
            first, *more = text.splitlines() if "\n" in text else textwrap.wrap(text, WIDTH) or [""]
            lines += [f"  {label:<8}  {first}", *(" " * 12 + line for line in more)]
        return lines


@dataclass(frozen=True)
class ClauseResult:
    """The verdict on one clause: ``"ok"``, ``"BROKEN"``, or ``"not tried"`` where an earlier one must be kept first."""

    clause: str
    promise: str
    verdict: str
    violations: list[Violation] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether the layer was tried and keeps the clause."""
        return self.verdict == OK

    def __str__(self) -> str:
        """The violations, with each advice once."""
        lines = [self.clause]
        for violation, following in itertools.zip_longest(self.violations, self.violations[1:]):
            lines += violation.lines(advise=following is None or following.advice != violation.advice)
        return "\n".join(lines)


@dataclass(frozen=True)
class ContractReport:
    """What the examination of a layer found; true if it keeps the contract. Prints as a table, then the violations.

    Attributes
    ----------
    title : str
        What was examined.
    rows : list of ClauseResult
    """

    title: str
    rows: list[ClauseResult]

    @property
    def ok(self) -> bool:
        """Whether there is at least one clause, and all are kept."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def violations(self) -> list[Violation]:
        """All violations, in the order of the clauses."""
        return [violation for row in self.rows for violation in row.violations]

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, clause: str) -> ClauseResult:
        """Return the row of a clause."""
        for row in self.rows:
            if row.clause == clause:
                return row
        raise KeyError(f"the report has no clause {clause!r}; it has: {', '.join(row.clause for row in self.rows)}")

    def __str__(self) -> str:
        cells = [("clause", "verdict", "promise"), *((row.clause, row.verdict, row.promise) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        table = ["  ".join(f"{text:<{width}}" for text, width in zip(line, widths)).rstrip() for line in cells]
        broken = sum(row.verdict == BROKEN for row in self.rows)
        end = (f"all {len(self.rows)} clauses are kept" if self.ok
               else f"{broken} of {len(self.rows)} clauses broken")
        return "\n".join([self.title, *table, end, *(f"\n{row}" for row in self.rows if row.violations)])


class ContractError(MinicnnError, AssertionError):
    """A layer breaks the contract. The message is the whole report, which is also in ``report``."""

    def __init__(self, report: ContractReport) -> None:
        super().__init__(str(report))
        self.report = report


def check_layer_contract(layer: Layer, input_shape: Sequence[int] | None = None, *, x: np.ndarray | None = None,
                         seed: int = 0) -> ContractReport:
    """Try everything that a layer promises, under both kernel sets, in float32 and float64.

    It raises where ``check_layer`` returns a report that is false: so a test is one line that cannot be written without
    its ``assert``, and the table is what a failing test prints. It needs no test framework.

    Parameters
    ----------
    layer : Layer
        Built or not; all is tried on copies. Give its constructor other arguments than the defaults: one that is
        missing in ``config`` shows best then.
    input_shape : sequence of int, optional
        Of one input, without the batch axis. Sizes that differ from each other find most. Not needed for a layer that
        is built or was given its ``input_shape``, or with ``x``.
    x : numpy.ndarray, optional
        A few inputs (N, ...), for layers that cannot take numbers from the standard normal distribution.
    seed : int
        Decides inputs and upstream gradients.

    Returns
    -------
    ContractReport
        One row a clause, all kept; prints as a table.

    Raises
    ------
    ContractError
        If the layer breaks a clause. It lists all violations: what was expected, what was found, what to do. Whatever a
        layer's own method raises is such a violation.
    ArgumentError, ShapeError
        If ``layer`` is no layer, or its input shape is not known.

    Examples
    --------
    >>> from minicnn.layers import Dense
    >>> check_layer_contract(Dense(3), (4,)).ok
    True
    """
    if not isinstance(layer, Layer):
        hint = f" Perhaps write {layer.__name__}(...)?" if isinstance(layer, type) else ""
        raise ArgumentError(f"check_layer_contract got {layer!r}; expected a layer.{hint}")
    if x is not None:
        x = np.array(x, np.float64)
    shape = _shape_of(layer, input_shape, x)
    subject = Subject(layer, shape, x, seed)
    rows: list[ClauseResult] = []
    for clause in CLAUSES:
        if any(row.clause in clause.needs and not row.ok for row in rows):
            rows.append(ClauseResult(clause.name, clause.promise, NOT_TRIED))
            continue
        violations = _violations(clause, subject)
        rows.append(ClauseResult(clause.name, clause.promise, BROKEN if violations else OK, violations))
    report = ContractReport(f"contract of {layer}, inputs ({', '.join(map(str, ('N', *shape)))})", rows)
    if not report.ok:
        raise ContractError(report)
    return report


def _shape_of(layer: Layer, input_shape: Sequence[int] | None, x: np.ndarray | None) -> tuple[int, ...]:
    """Return the shape of one input from wherever it is told; all that tell it must agree."""
    told: dict[str, Any] = {"layer.input_shape": layer.input_shape or layer.declared_input_shape,
                            "input_shape": None if input_shape is None else tuple(input_shape),
                            "x": None if x is None else x.shape[1:]}
    told = {who: shape for who, shape in told.items() if shape is not None}
    if not told:
        raise ShapeError(f"check_layer_contract does not know the input shape of {layer}. Give input_shape, such as "
                         f"(7, 5, 2), without the batch axis.")
    if len(set(told.values())) > 1:
        raise ShapeError(f"check_layer_contract got several input shapes for {layer}: "
                         f"{', '.join(f'{who} {shape}' for who, shape in told.items())}. Make them agree.")
    return next(iter(told.values()))


def _violations(clause: Clause, subject: Subject) -> list[Violation]:
    """Try a clause under each of its kernel sets; what is expected in vain under several is one violation."""
    seen: dict[tuple[str, int], tuple[Finding, list[str]]] = {}
    for name in clause.sets:
        counts: collections.Counter[str] = collections.Counter()
        with kernel_set(name):
            for finding in _findings(clause, subject):
                counts[finding.expected] += 1
                seen.setdefault((finding.expected, counts[finding.expected]), (finding, []))[1].append(name)
    # A clause for one set only has nothing to say about sets.
    return [Violation(clause.name, finding.expected, finding.found, finding.advice or clause.advice,
                      tuple(sets) if len(clause.sets) > 1 else ()) for finding, sets in seen.values()]


def _findings(clause: Clause, subject: Subject) -> list[Finding]:
    findings: list[Finding] = []
    try:
        for finding in clause.examine(subject):
            findings.append(finding)  # one by one: those before an error stay
    except Exception as error:  # whatever a reader's layer does
        findings.append(Finding("no error", f"{type(error).__name__}: {error}{_place(error)}"))
    return findings


def _place(error: Exception) -> str:
    """Say where an error came from: the last line outside this library and its dependencies, if there is one."""
    here = str(Path(__file__).parent)
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(here) and "site-packages" not in frame.filename]
    frame = (own or frames)[-1]
    return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})"
