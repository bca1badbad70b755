"""What gradient tests measured, as a table."""

from __future__ import annotations

import math
from typing import NamedTuple


class GradientRow(NamedTuple):
    """One compared tensor."""

    name: str
    what: str
    error: float
    limit: float

    @property
    def ok(self) -> bool:
        return self.error <= self.limit  # False for NaN


class GradientTable:
    """The rows that gradient tests add; printed at the end of the session."""

    def __init__(self) -> None:
        self.rows: list[GradientRow] = []

    def add(self, name: str, what: str, error: float, limit: float) -> bool:
        """Append a row and return whether the error is within its limit (the test still asserts it)."""
        row = GradientRow(str(name), str(what), float(error), float(limit))
        self.rows.append(row)
        return row.ok

    def lines(self) -> list[str]:
        """Return the whole table."""
        wide = [max(len(text) for text in column)
                for column in zip(("layer or network", "tensor"), *((row.name, row.what) for row in self.rows))]
        form = f"{{:<{wide[0]}}}  {{:<{wide[1]}}}  {{:>9}}  {{:>7}}  {{}}"
        body = [form.format(row.name, row.what, f"{row.error:.2e}", f"{row.limit:.0e}", "ok" if row.ok else "WRONG")
                for row in self.rows]
        return [form.format("layer or network", "tensor", "error", "limit", "verdict"), *body, self.summary()]

    def summary(self) -> str:
        """Return one line: how many checks, and the largest error under each limit."""
        parts = []
        for limit in sorted({row.limit for row in self.rows}):
            errors = [row.error for row in self.rows if row.limit == limit]
            worst = math.nan if any(map(math.isnan, errors)) else max(errors)
            parts.append(f"of {len(errors)} held to {limit:.0e}: {worst:.1e}")
        wrong = sum(not row.ok for row in self.rows)
        return f"{len(self.rows)} gradients compared with numeric ones, {wrong} wrong; largest error {', '.join(parts)}"
