"""What a gradient check found: one row a tensor, and the table they print as."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from minicnn.diagnosis import Diagnosis

OK = "ok"
WRONG = "WRONG"
NOT_CHECKED = "NOT CHECKED"
SKIPPED_LIMIT = 0.05  # part of a tensor's points that may lie on kinks


@dataclass(frozen=True)
class GradientRow:
    """The verdict on the gradient of one tensor.

    Attributes
    ----------
    what : str
        ``"input"``, the parameter's name, or ``"layer/parameter"`` in a model.
    shape : tuple of int
        Of the tensor.
    analytic : numpy.ndarray or None
        What ``backward`` gave; None if it gave nothing usable. Points that were moved hold what it gave there.
    numeric : numpy.ndarray or None
        Central differences, NaN at entries that were not compared.
    checked, moved, skipped : int
        Points compared, how many of them only after moving them away from a kink or a tie, and points too near to one
        wherever they were moved. A random direction counts as a point.
    error : float
        max|analytic - numeric| / max|numeric|; infinite if there is nothing to compare.
    limit : float
    where : tuple of int, str or None
        Index of the worst entry, or ``"random direction"``.
    verdict : {"ok", "WRONG", "NOT CHECKED"}
    note : str
        Why, in a few words; empty for ``ok``.
    diagnosis : Diagnosis or None
        What a refused gradient looks like; see ``minicnn/diagnosis.py``.
    """

    what: str
    shape: tuple[int, ...]
    analytic: np.ndarray | None
    numeric: np.ndarray | None
    checked: int
    moved: int
    skipped: int
    error: float
    limit: float
    where: tuple[int, ...] | str | None
    verdict: str
    note: str = ""
    diagnosis: Diagnosis | None = None

    @property
    def ok(self) -> bool:
        """Whether the gradient was compared and is right."""
        return self.verdict == OK

    def cells(self) -> tuple[str, ...]:
        """Return the row as text, in the order of ``COLUMNS``."""
        number = "-" if np.isinf(self.error) else f"{self.error:.1e}"
        where = "-" if self.where is None else str(self.where)
        verdict = f"{self.verdict}: {self.note}" if self.note else self.verdict
        return (self.what, "x".join(map(str, self.shape)) or "scalar", str(self.checked), str(self.moved),
                str(self.skipped), number, f"{self.limit:.0e}", where, verdict)


def refusal(what: str, shape: tuple[int, ...], note: str) -> GradientRow:
    """Return the row of something refused before any number was compared."""
    return GradientRow(what, shape, None, None, 0, 0, 0, np.inf, 0.0, None, WRONG, note)


COLUMNS = ("what", "shape", "checked", "moved", "skipped", "error", "limit", "worst at", "verdict")


@dataclass(frozen=True)
class GradientReport:
    """The result of a gradient check; true if every gradient is right. Prints as a table.

    Attributes
    ----------
    title : str
        What was checked, and with which kernels.
    rows : list of GradientRow
    notes : list of str
        What the refused gradients look like, one or two sentences each; printed under the table.
    """

    title: str
    rows: list[GradientRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether there is at least one row, and all are ok."""
        return bool(self.rows) and all(row.ok for row in self.rows)

    @property
    def error(self) -> float:
        """The largest error of all rows."""
        return max((row.error for row in self.rows), default=np.inf)

    def __bool__(self) -> bool:
        return self.ok

    def __getitem__(self, what: str) -> GradientRow:
        """Return the row of a tensor."""
        for row in self.rows:
            if row.what == what:
                return row
        raise KeyError(f"the report has no row {what!r}; it has: {', '.join(row.what for row in self.rows)}")

    def __str__(self) -> str:
        cells = [COLUMNS, *(row.cells() for row in self.rows)]
        widths = [max(map(len, column)) for column in zip(*cells)]
        table = ["  ".join(f"{text:<{width}}" for text, width in zip(line, widths)).rstrip() for line in cells]
        wrong = sum(not row.ok for row in self.rows)
        end = (f"all {len(self.rows)} gradients are right" if self.ok
               else f"{wrong} of {len(self.rows)} gradients refused")
        return "\n".join([self.title, *table, end, *self.notes])
