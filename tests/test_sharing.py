"""The sharing of the suite among processes, tried: what is shared, by how many, and that nothing gets lost."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

import sharing
import small_suites

# A process that ends before it has handed over what it counted.
DYING = """
import os, pytest

class Dying:
    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self): os._exit(0)

def test_it(request):
    request.config.pluginmanager.register(Dying())
"""


def config(numprocesses=None, dist="no", plugin=True, source="TESTPATHS", **options):
    """Return what the hooks ask of pytest's configuration."""
    option = SimpleNamespace(numprocesses=numprocesses, dist=dist, loadscopereorder=True)
    return SimpleNamespace(option=option, pluginmanager=SimpleNamespace(hasplugin=lambda name: plugin),
                           args_source=pytest.Config.ArgsSource[source],
                           getoption=lambda name, default=None: options.get(name, default))


@pytest.fixture
def _two_cores(monkeypatch):
    monkeypatch.setattr(sharing, "cores", lambda: 2)
    monkeypatch.setattr(sys, "gettrace", lambda: None)    # where this very run is measured
    if hasattr(sys, "monitoring"):
        monkeypatch.setattr(sys.monitoring, "get_tool", lambda tool: None)


@pytest.mark.usefixtures("_two_cores")
@pytest.mark.parametrize(("given", "processes", "dist"), [
    ({}, 2, "loadfile"), ({"numprocesses": 3}, 3, "loadfile"), ({"numprocesses": "auto"}, "auto", "loadfile"),
    ({"numprocesses": 3, "dist": "load"}, 3, "load"),
    ({"numprocesses": 2, "source": "ARGS"}, 2, "loadfile"),
    ({"numprocesses": 0}, 0, "no"), ({"plugin": False}, None, "no"),
    ({"source": "ARGS"}, None, "no"), ({"keyword": "dense"}, None, "no"), ({"markexpr": "gradient"}, None, "no"),
    ({"lf": True}, None, "no"), ({"collectonly": True}, None, "no"),
    ({"usepdb": True}, None, "no"), ({"trace": True}, None, "no"), ({"capture": "no"}, None, "no")], ids=str)
def test_the_whole_suite_is_shared_unless_somebody_looks_into_it(given, processes, dist):
    chosen = config(**given)
    sharing.pytest_cmdline_main(chosen)
    assert (chosen.option.numprocesses, chosen.option.dist) == (processes, dist)
    assert chosen.option.loadscopereorder == (dist != "loadfile")


def test_checks_are_not_counted_once_for_each_process():
    with pytest.raises(pytest.UsageError, match="--dist each would count every check"):
        sharing.pytest_cmdline_main(config(dist="each"))
    sharing.pytest_cmdline_main(config(dist="each", source="ARGS"))


@pytest.mark.usefixtures("_two_cores")
def test_a_process_that_is_traced_is_not_shared(monkeypatch):
    monkeypatch.setattr(sys, "gettrace", lambda: "a debugger's function")
    traced = config()
    sharing.pytest_cmdline_main(traced)
    assert traced.option.numprocesses is None
    monkeypatch.setattr(sys, "gettrace", lambda: None)
    tools = {1: "coverage"}
    monkeypatch.setattr(sys, "monitoring", SimpleNamespace(DEBUGGER_ID=0, COVERAGE_ID=1, get_tool=tools.get),
                        raising=False)
    sharing.pytest_cmdline_main(traced)
    assert traced.option.numprocesses is None
    tools.clear()
    sharing.pytest_cmdline_main(traced)
    assert traced.option.numprocesses == 2


@pytest.mark.parametrize(("cores", "processes", "inner"), [(1, 0, 1), (2, 2, 2), (3, 3, 2), (64, 4, 2)])
def test_a_process_for_a_core(cores, processes, inner, monkeypatch):
    monkeypatch.setattr(sharing, "cores", lambda: cores)
    assert sharing.pytest_xdist_auto_num_workers() == processes
    monkeypatch.delenv(sharing.WORKER, raising=False)
    assert sharing.processes() == inner
    monkeypatch.setenv(sharing.WORKER, "gw0")
    assert sharing.processes() == 1


def test_the_files_that_come_first_exist_and_come_first():
    for name in sharing.FIRST:
        assert (small_suites.ROOT / "tests" / name).is_file(), name
    items = [SimpleNamespace(path=SimpleNamespace(name=name)) for name in ("a.py", *sharing.FIRST[::-1], "b.py")] * 2
    sharing.order(items)
    assert [item.path.name for item in items] == [
        *(name for name in sharing.FIRST for _ in range(2)), "a.py", "b.py", "a.py", "b.py"]


def test_tests_that_were_not_run_and_processes_that_were_lost_are_named():
    ledger = sharing.Ledger()
    ledger.pytest_collection_finish(SimpleNamespace(items=["a", "b", "c"]))
    for test in ("a", "b", "b", "a"):    # setup, call and teardown are reported one by one
        ledger.pytest_runtest_logreport(SimpleNamespace(nodeid=test))
    assert ledger.shortfalls() == ["1 of 3 tests were not run"]
    ledger.pytest_runtest_logreport(SimpleNamespace(nodeid="c"))
    assert ledger.shortfalls() == []
    ledger.pytest_testnodedown(SimpleNamespace(workeroutput={"minicnn": {"collected": 5}}))
    ledger.pytest_testnodedown(SimpleNamespace())
    assert ledger.shortfalls() == ["2 of 5 tests were not run",
                                   "1 of the processes that share the tests ended without their counts"]


def test_a_process_that_dies_after_its_tests_turns_the_run_red(tmp_path):
    small_suites.lay_out(tmp_path)
    status, output = small_suites.run(tmp_path, DYING, "-n", "1", shared=True)
    assert "1 passed" in output
    assert "NOT PROVED: 1 of the processes that share the tests ended without their counts, so this run fails" in output
    assert status == pytest.ExitCode.TESTS_FAILED
