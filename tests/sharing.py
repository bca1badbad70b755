"""The whole suite is shared by several processes, one for a core, each file run by one of them (pytest-xdist).

A part of the suite is run by one process, which is there at once; so is all of it under a debugger, with ``-s``, with
``-n 0`` and where pytest-xdist is missing. What the processes counted is added up (``conftest.py``), and a run is red
that lost a process with its counts, or a test.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

MOST = 4  # processes: each imports PyTorch, and what is compiled first all others wait for
WORKER = "PYTEST_XDIST_WORKER"  # in the environment of those, and of what their tests start
PARTIAL = ("keyword", "markexpr", "deselect", "ignore", "ignore_glob", "lf", "stepwise", "collectonly")
BY_HAND = ("usepdb", "trace")  # debuggers; PyCharm's and the like are seen as they trace

# Files that take long, longest first, so that none is left to one process at the end. While one process compiles what
# the exact convolutions call, and all others then find, the next takes those that compile nothing or for themselves.
FIRST = ("test_exact_conv2d.py", "test_mistakes.py", "test_processors.py", "test_watch.py", "test_diagnosis.py",
         "test_fast_cache.py", "test_benchmark_ladder.py", "test_fused_kernels.py", "test_contract.py", "test_proof.py")


def whole(config: pytest.Config) -> bool:
    """Tell whether this is a run of the whole suite, not of a part chosen by hand."""
    return config.args_source is not pytest.Config.ArgsSource.ARGS and not any(
        config.getoption(name, None) for name in PARTIAL)


def processes() -> int:
    """Return how many processes a test may keep busy: one for a core, one where the tests themselves are shared."""
    return 1 if WORKER in os.environ else min(2, cores())


def cores() -> int:
    from minicnn.kernels.threads import _available_cores  # not before coverage is measured
    return _available_cores()


def _watched(config: pytest.Config) -> bool:
    """Tell whether somebody looks into this very process: a debugger, or ``coverage run``."""
    monitoring = getattr(sys, "monitoring", None)  # since Python 3.12
    tools = [monitoring.DEBUGGER_ID, monitoring.COVERAGE_ID] if monitoring else []
    return (any(config.getoption(name) for name in BY_HAND) or config.getoption("capture") == "no"
            or sys.gettrace() is not None or any(monitoring.get_tool(tool) for tool in tools))


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Share the whole suite, unless the command line says how many processes; keep the tests of a file together."""
    option = config.option
    if not config.pluginmanager.hasplugin("xdist") or hasattr(config, "workerinput"):
        return
    if option.dist == "each" and whole(config):
        raise pytest.UsageError("--dist each would count every check once for each process, and half of them would "
                                "pass for all. Leave it out, or name files.")
    if option.numprocesses is None and option.dist == "no" and whole(config) and not _watched(config):
        option.numprocesses = pytest_xdist_auto_num_workers()
    if option.numprocesses and option.dist == "no":
        option.dist = "loadfile"
        option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return how many processes ``-n auto`` is: 0 is none but this one."""
    return min(cores(), MOST) if cores() > 1 else 0


def order(items: list[pytest.Item]) -> None:
    """Sort the tests for processes that share them: the files in FIRST before all others."""
    rank = {name: at for at, name in enumerate(FIRST)}
    items.sort(key=lambda item: rank.get(item.path.name, len(rank)))


class Ledger:
    """Holds a run to what it began with: each test collected is reported, and each process hands over its counts."""

    def __init__(self) -> None:
        self.collected = 0
        self.reported: set[str] = set()
        self.lost = 0

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.collected = len(session.items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.reported.add(report.nodeid)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        found = getattr(node, "workeroutput", {}).get("minicnn")
        if found is None:
            self.lost += 1
        else:
            self.collected = found["collected"]  # every process collects them all

    def shortfalls(self) -> list[str]:
        """Return a line for what is missing, if anything is."""
        missing, lines = self.collected - len(self.reported), []
        if missing:
            lines.append(f"{missing:,} of {self.collected:,} tests were not run")
        if self.lost:
            lines.append(f"{self.lost} of the processes that share the tests ended without their counts")
        return lines
