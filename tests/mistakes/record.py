"""What a mistake is, and the source text it makes."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]

# What a report on a wrong gradient should say it looks like; see Mistake.kind.
KINDS = ("", "ratio", "sign", "axes", "border", "remainder", "missing term", "mask", "zero", "shape", "accumulated",
         "other")


class Mistake(NamedTuple):
    """One edit of one file of minicnn that makes the library wrong.

    ``old`` stands ``count`` times in ``file`` (relative to minicnn/) and becomes ``new``; ``wrong`` says in a sentence
    what goes wrong; ``test`` (relative to tests/, as pytest writes it) is the test meant to notice. ``kind``, for
    mistakes of a backward pass only, says what the wrong gradient looks like.
    """

    name: str
    file: str
    old: str
    new: str
    wrong: str
    test: str
    kind: str = ""
    count: int = 1

    @property
    def path(self) -> Path:
        return ROOT / "minicnn" / self.file

    @property
    def module(self) -> str:
        return ".".join(("minicnn", *Path(self.file).with_suffix("").parts))

    @property
    def kernel_set(self) -> str:
        """The set whose tests run: that of the file; the reference set, which nobody compiles, for other files."""
        return "fast" if self.file.startswith("kernels/fast/") else "reference"

    def source(self) -> str:
        """Return the text of the file with the mistake in it.

        Raises
        ------
        LookupError
            If ``old`` does not stand in the file as often as it should.
        """
        text = self.path.read_text(encoding="utf-8")
        found = text.count(self.old)
        if found != self.count:
            raise LookupError(f"{self.name}: {self.old!r} stands {found} times in minicnn/{self.file}, expected "
                              f"{self.count}")
        return text.replace(self.old, self.new)
