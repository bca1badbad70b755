"""A short fuzzing of every reader, always with the same files; ``tests/fuzz.py`` goes on for as long as you like."""

from __future__ import annotations

import collections

import hypothesis
import pytest

import fuzz
import proof

EXAMPLES = 400


@pytest.mark.usefixtures("reference_kernels", "threads")
@pytest.mark.parametrize("name", fuzz.TARGETS)
def test_only_our_own_errors_come_out(name, tmp_path):
    outcomes: collections.Counter[str] = collections.Counter()

    @hypothesis.seed(1)
    @hypothesis.settings(max_examples=EXAMPLES, derandomize=False, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(fuzz.TARGETS[name].files)
    def trial(content):
        outcomes[fuzz.attempt(fuzz.TARGETS[name], tmp_path / "file", content)] += 1

    trial()
    assert outcomes["read"] >= EXAMPLES // 20  # the strategies also make files that are right
    assert outcomes["FileFormatError"] >= EXAMPLES // 4
    proof.record("files fuzzed", outcomes.total(), klass=name)


def test_the_script_tries_what_is_named_and_reports_a_finding(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    assert fuzz.main(["idx", "json", "--minutes", "0.005"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["idx", "json"]
    assert all(line.endswith("no finding") for line in lines)

    def broken(path):
        raise KeyError("beta")

    monkeypatch.setitem(fuzz.TARGETS, "idx", fuzz.TARGETS["idx"]._replace(enter=broken))
    assert fuzz.main(["idx", "--minutes", "1"]) == 1
    assert "a finding: KeyError: 'beta'" in capsys.readouterr().out
    assert (tmp_path / "fuzz-idx-finding").is_file()
