"""JSON from files: what is refused, in what words; the corpus and ``fuzz.py`` have more."""

from __future__ import annotations

import json

import pytest

from memory import allocated_above
from minicnn import strict_json
from minicnn.errors import FileFormatError


def loads(content):
    return strict_json.loads(content, "a.json", "Use another copy.")


def check(value, expected):
    strict_json.check(value, expected, "a.json", "Use another copy.", "top")


def test_json_is_read():
    value = {"a": [1, 2.5, -3e-9, None, True, "é\n", {"b": {}}], "": []}
    assert loads(json.dumps(value).encode()) == value
    assert loads(b' "\\ud800" ') == "\ud800"


@pytest.mark.parametrize(("content", "words"), [
    (b"", "Expecting value"), (b"{'a': 1}", "double quotes"), (b"[1] 2", "Extra data"), (b"\xff", "can't decode"),
    (b'{"a": 1, "b": 2, "a": 1}', "the key 'a' is there twice"), (b"[-Infinity]", "found -Infinity"),
    (b"1e999", "the number 1e999 is too large"), (b"9" * 101, "101 digits, more than 100"),
    (b"[" * 40_000, "nested too deeply"),
    (b"[]" * 50_001, "50,001 opening brackets, more than 50,000"),
    (b" " * (strict_json.MOST_BYTES + 1), "2,097,153 bytes of JSON, more than 2,097,152")])
def test_what_is_refused(content, words):
    with pytest.raises(FileFormatError, match=r"^a\.json is no JSON .*; expected valid JSON\. Use another") as caught:
        loads(content)
    assert words in str(caught.value)


@pytest.mark.parametrize("piece", [b"1,", b"300,", b'"ab",', b"1.5,", b'"",'])
def test_memory_is_bounded_by_the_size(piece):
    content = b"[" + piece * ((strict_json.MOST_BYTES - 3) // len(piece)) + b"1]"
    assert allocated_above(lambda: loads(content)) < 50 << 20
    nested = b"[" + b'{"a":1},' * (strict_json.MOST_CONTAINERS - 2) + b"1]"
    assert allocated_above(lambda: loads(nested)) < 50 << 20


@pytest.mark.parametrize(("value", "expected"), [
    (1, int), (1, float), (1.5, float), (None, (int, type(None))), ([], [int]), ([1, 2], [int]), ({}, dict),
    ({"a": [1], "b": 2}, {"a": [int], "...": None}), ({"a": {"b": "x"}}, {"a": {"b": str}}),
    (["a", ["b"]], [(str, [str])])])
def test_what_fits(value, expected):
    check(value, expected)


@pytest.mark.parametrize(("value", "expected", "words"), [
    (True, int, "top: found true; expected a whole number"), (True, float, "found true; expected a number"),
    (1.5, int, "found 1.5"), ("1", (int, type(None)), 'found "1"; expected a whole number or null'),
    ([1, "a"], [int], 'top[1]: found "a"; expected a whole number'), ({}, [int], "found {}; expected a list"),
    ([], {"a": int}, "found []; expected an object"), ({}, {"a": int}, "found no key 'a'; expected the keys a"),
    ({"a": 1, "b": 2}, {"a": int}, "found the unknown key 'b'; expected only a"),
    ({"a": {"b": []}}, {"a": {"b": dict}}, "top.a.b: found []; expected an object"),
    ("x" * 99, int, f'found "{"x" * 36}...; expected')])
def test_what_does_not_fit(value, expected, words):
    with pytest.raises(FileFormatError, match=r"^a\.json: .* Use another copy\.$") as caught:
        check(value, expected)
    assert words in str(caught.value)
