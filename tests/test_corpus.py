"""The corpus of bad input: each is refused by our own error, with a message that helps, in little memory."""

from __future__ import annotations

import collections
import hashlib
import re

import pytest

import corpus
import proof
from memory import peak_above
from minicnn.errors import MinicnnError

ROOM = 50 << 20  # bytes that bad input may take above what is in use before
CASES = corpus.every()

pytestmark = pytest.mark.usefixtures("reference_kernels", "threads", "no_pictures")


def contents(place):
    """Return what is in a folder and in the folders in it."""
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            for path in sorted(place.rglob("*"))}


def message_of(case, given, capsys):
    """Enter by the door, and return the message that comes out."""
    if case.door.script:
        assert case.door.enter(given) == 2
        shown = capsys.readouterr().err
        assert "Traceback" not in shown
        assert shown.count("error: ") == 1
        return shown.partition("error: ")[2]
    with pytest.raises(MinicnnError) as caught:
        case.door.enter(given)
    assert isinstance(caught.value, case.error), repr(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bad_input_is_refused_with_a_message_that_helps(case, tmp_path, monkeypatch, capsys):
    place = tmp_path / "here"
    place.mkdir()
    given = case.make(place)
    monkeypatch.chdir(place)
    before = contents(place)
    messages = []
    taken = peak_above(lambda: messages.append(message_of(case, given, capsys)))
    (message,) = messages
    for words in case.words:
        assert words in message
    if case.named:
        assert str(given) in message or given.name in message
    assert re.search(r"[Ee]xpected|must|Did you mean|Known: ", message)  # what would have been right
    if case.kind != "call":  # of an argument, what is expected is what to do
        assert re.search(r"[.)?] [A-Z][^.]+.*[.)?]?$", message.strip(), re.DOTALL)  # a last sentence says what to do
    assert contents(place) == before
    assert taken < ROOM
    proof.record("bad input", klass=case.kind)


def test_the_corpus_is_as_large_as_promised_and_says_nothing_twice():
    kinds = collections.Counter(case.kind for case in CASES)
    assert len(CASES) >= 150
    assert set(kinds) == {"IDX", "gzip", "CSV", "model file", "JSON", "picture", "script", "call"}
    assert max(collections.Counter(map(str, CASES)).values()) == 1
