"""Bad input: files and calls that must be refused with a message that helps. ``test_corpus.py`` tries them all.

Each entry is one way in which a good file or call is spoiled, the door it comes in by, and what the message must say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from minicnn.errors import FileFormatError

# Makes the bad file from nothing in an empty folder, and returns what the door is given.
Maker = Callable[[Path], Any]


class Door(NamedTuple):
    """Where input comes in.

    Attributes
    ----------
    name : str
    enter : callable
        Takes what the maker returned. Raises, or of a script: returns the exit status.
    script : bool
    """

    name: str
    enter: Callable[[Any], Any]
    script: bool = False


class Case(NamedTuple):
    """One bad file or call.

    Attributes
    ----------
    kind, name : str
    make : callable
    door : Door
    words : tuple of str
        What the message must have in it: the place, what was found there.
    error : type
        What a call raises.
    named : bool
        Whether the message must name the path.
    """

    kind: str
    name: str
    make: Maker
    door: Door
    words: tuple[str, ...]
    error: type[Exception] = FileFormatError
    named: bool = True

    def __str__(self) -> str:
        return f"{self.kind}: {self.name}, by {self.door.name}"


def as_file(name: str, content: bytes) -> Maker:
    """Return a maker of a file."""
    def make(place: Path) -> Path:
        (place / name).write_bytes(content)
        return place / name
    return make


def as_folder(contents: Mapping[str, bytes]) -> Maker:
    """Return a maker of a folder of files."""
    def make(place: Path) -> Path:
        (place / "given").mkdir()
        for name, content in contents.items():
            (place / "given" / name).write_bytes(content)
        return place / "given"
    return make


def nothing(place: Path) -> None:
    """Make no file: the arguments are what is bad."""


def every() -> list[Case]:
    """Return all cases of all kinds."""
    from corpus import calls, idx, json_files, model_files, pictures, scripts, tables
    modules: Iterable[Any] = (idx, tables, model_files, json_files, pictures, scripts, calls)
    return [case for module in modules for case in module.CASES]
