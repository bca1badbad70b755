"""The catalogue of mistakes: each is still one, and turns the test that is meant to catch it red."""

from __future__ import annotations

import ast
import json
import re

import pytest

from mistakes import ALL, CATALOGUE, KINDS, ROOT
from mistakes.runner import Job, run
from mistakes.table import COMMAND, PAGE, jobs, write
from mistakes.worker import judge_in_a_process
from proof import record

# What must be there at least: of each topic, of all, and of those that need no compiler even where it is used.
MINIMA = {"conv": 33, "fast conv": 30, "pooling": 14, "batch norm": 14, "dropout": 8, "dense": 6,
          "softmax cross-entropy": 8, "activations": 5, "optimizers": 14, "initial weights, loaders, training": 18,
          "callbacks": 25, "resume": 13, "augmentation": 12, "tables": 9}
MINIMUM, IN_NUMPY = 120, 100


def test_the_catalogue_is_as_large_as_it_should_be():
    assert {topic: len(mistakes) for topic, mistakes in CATALOGUE.items() if len(mistakes) < MINIMA[topic]} == {}
    assert CATALOGUE.keys() == MINIMA.keys()
    assert len(ALL) >= MINIMUM
    assert sum("kernels/fast" not in mistake.file for _, mistake in ALL) >= IN_NUMPY


def test_every_old_text_is_found_and_every_new_one_is_python():
    faults = []
    for topic, mistake in ALL:
        try:
            assert ast.dump(ast.parse(mistake.source())) != ast.dump(ast.parse(mistake.path.read_text("utf-8")))
        except (LookupError, SyntaxError, AssertionError) as error:
            faults.append(f"{topic}: {mistake.name}: {error}")
    assert faults == []


def test_no_mistake_is_there_twice():
    assert len({(topic, mistake.name) for topic, mistake in ALL}) == len(ALL)
    assert len({(mistake.file, ast.dump(ast.parse(mistake.source()))) for _, mistake in ALL}) == len(ALL)


def test_every_mistake_says_what_goes_wrong_and_names_a_test():
    for _, mistake in ALL:
        assert re.fullmatch(r"\S.{15,}[.]", mistake.wrong), mistake
        assert mistake.kind in KINDS, mistake
        file, _, function = mistake.test.partition("::")
        text = (ROOT / "tests" / file).read_text(encoding="utf-8")
        assert re.search(rf"^def {re.escape(function.partition('[')[0])}\(", text, re.MULTILINE), mistake


def test_every_mistake_is_caught_by_its_test():
    """And by an assertion: a crash does not count. The items that caught them pass without the mistakes."""
    outcomes = run([Job([mistake.test], mistake) for _, mistake in ALL])
    missed = [f"{topic}: {mistake.name}: {outcome.outcome} {outcome.by} {outcome.detail}"
              for (topic, mistake), outcome in zip(ALL, outcomes, strict=True) if outcome.outcome != "caught"]
    assert missed == []
    caught_by: dict[str, set[str]] = {"reference": set(), "fast": set()}
    for (_, mistake), outcome in zip(ALL, outcomes, strict=True):
        caught_by[mistake.kernel_set].add(outcome.by.removeprefix("tests/"))
    controls = [Job(sorted(tests), None, kernel_set) for kernel_set, tests in caught_by.items()]
    for outcome in run(controls):
        assert outcome.outcome == "survived", outcome
    for name, fast in (("NumPy", False), ("compiled kernels", True)):
        count = sum(("kernels/fast" in mistake.file) == fast for _, mistake in ALL)
        record("mistakes tried", count, klass=name)
        record("mistakes caught", count, klass=name)    # none was missed


def test_a_test_that_sees_nothing_and_a_crash_are_told_from_a_catch():
    flipped = next(mistake for _, mistake in ALL if mistake.name == "dx: kernel flipped")
    crash = flipped._replace(old="KH, KW = window\n    OH", new="KW, KH = window + 1\n    OH", count=2)
    blind, crashed, unknown = run([Job(["test_layers.py::test_keras_spellings"], flipped),
                                   Job(["test_kernels_exact.py::test_reference_conv2d_in_blocks"], crash),
                                   Job(["test_layers.py::test_that_does_not_exist"], flipped)])
    assert blind.outcome == "survived"
    assert crashed.outcome == "crashed"
    assert "TypeError" in crashed.detail
    assert unknown.outcome == "no test"


def test_where_processes_cannot_be_forked():
    """Each request then gets a process of its own."""
    sign = next(mistake for _, mistake in ALL if mistake.name == "dx: sign")
    answer = json.loads(judge_in_a_process(Job(["test_kernels_exact.py::test_dense"], sign).request()))
    assert answer["outcome"] == "survived", answer
    answer = json.loads(judge_in_a_process(Job([sign.test], sign).request()))
    assert answer["outcome"] == "caught", answer


def test_the_page_has_every_mistake(request):
    if request.config.getoption("--all-tests"):
        write(run(jobs()))
    elif not PAGE.exists():
        pytest.skip(f"{PAGE.name} is not written yet: {COMMAND}")
    page = PAGE.read_text(encoding="utf-8")
    missing = [mistake.name for _, mistake in ALL if f"| {mistake.name.replace('*', chr(92) + '*')} |" not in page]
    assert missing == [], f"run {COMMAND}"


@pytest.mark.parametrize("text", ["stands 0 times", "expected 1"])
def test_a_text_that_is_gone_is_an_error(text):
    with pytest.raises(LookupError, match=text):
        ALL[0][1]._replace(old="no such text").source()
