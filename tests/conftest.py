"""What every test can rely on: marks, fixtures, no network, no window, no clock.

Marks
    ``@pytest.mark.needs("mnist")`` (or ``kaggle``, ``torch``, ``keras``): skipped where the thing is missing, failed
    where it is missing although ``MINICNN_REQUIRE`` (names separated by commas) lists it.
    ``@pytest.mark.no_jit_excluded("reason")``: not run under ``NUMBA_DISABLE_JIT=1``; at most 10 % of the suite.
Fixtures
    ``kernel_set`` runs a test under both kernel sets, ``reference_kernels`` under that one, ``use_kernels`` chooses;
    ``threads`` puts the number of threads back, ``rng`` is a generator that depends on the test's name only,
    ``gradient_table`` collects what gradient tests measured; ``data``, ``home`` and ``takes_for_mnist`` serve the tests
    of training and of data sets.
At the end
    The section "proof" says what was checked (``proof.record``); the whole suite fails where that is too little.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import signal
import socket
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before anything imports keras or matplotlib, here or in a process a test starts.
os.environ["KERAS_BACKEND"] = "torch"
os.environ["MPLBACKEND"] = "Agg"

import hypothesis
import numpy as np
import pytest

import proof
import sharing
from gradient_rows import GradientRow, GradientTable
from sharing import pytest_cmdline_main, pytest_xdist_auto_num_workers  # noqa: F401

# A shell lets what it starts in the background ignore Ctrl-C; the tests of Ctrl-C then see nothing.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

SEED = 20240817
EXCLUDED_LIMIT = 0.10
NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")

hypothesis.settings.register_profile(
    "minicnn", max_examples=200, derandomize=True, deadline=None, database=None,
    # Speed is the machine's affair; `kernel_set` stays the same for all examples of a test, which is what we want.
    suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.function_scoped_fixture])
# Other examples every night; a failure prints how to try the same one again.
hypothesis.settings.register_profile(
    "nightly", hypothesis.settings.get_profile("minicnn"), max_examples=5000, derandomize=False, print_blob=True)
# The plugin reads --hypothesis-profile after this file: what the command line names is loaded on top of this.
hypothesis.settings.load_profile("minicnn")


# --- what a machine may lack -------------------------------------------------------------------------------------

def _has_mnist() -> bool:
    from minicnn.datasets import mnist
    return mnist.find() is not None


def _has_kaggle() -> bool:
    from minicnn.datasets import _places, kaggle
    return any(kaggle.find(folder, "train") for folder in _places.places("kaggle"))


def _has_modules(*names: str) -> bool:
    return all(importlib.util.find_spec(name) is not None for name in names)


CAPABILITIES: dict[str, tuple[Callable[[], bool], str]] = {
    "mnist": (_has_mnist, "MNIST is not on this machine (data/README.md says where it is looked for)"),
    "kaggle": (_has_kaggle, "Kaggle's train.csv is not on this machine (data/README.md says where it is looked for)"),
    "torch": (lambda: _has_modules("torch"), "PyTorch is not installed (pip install torch)"),
    "keras": (lambda: _has_modules("keras", "torch"), "Keras with PyTorch is not installed (pip install keras torch)"),
}


def required() -> set[str]:
    """Return the names in MINICNN_REQUIRE."""
    return {name.strip() for name in os.environ.get("MINICNN_REQUIRE", "").split(",") if name.strip()}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            present, reason = CAPABILITIES[name]
            if present():
                continue
            if name in required():
                pytest.fail(f"MINICNN_REQUIRE lists {name!r}, but: {reason}", pytrace=False)
            pytest.skip(reason)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--all-tests", action="store_true", help=(
        "try every mistake of tests/mistakes with every kind of test and write docs/mistakes.md (many minutes)"))


def pytest_configure(config: pytest.Config) -> None:
    unknown = required() - set(CAPABILITIES)
    if unknown:
        raise pytest.UsageError(f"MINICNN_REQUIRE lists {sorted(unknown)}; known: {', '.join(CAPABILITIES)}.")
    # OpenBLAS now and then raises this flag over right results (NumPy's issues 13173 and 24067); a NaN fails a test
    # by its value.
    config.addinivalue_line("filterwarnings", "ignore:invalid value encountered in matmul:RuntimeWarning")
    config.stash[TABLE] = GradientTable()
    config.stash[EXCLUDED] = (0, 0)
    config.stash[BROKEN_OFF] = False
    config.stash[LEDGER] = sharing.Ledger()
    config.pluginmanager.register(config.stash[LEDGER])
    _forbid_network()


def pytest_report_header(config: pytest.Config) -> str:
    return f"minicnn: required: {', '.join(sorted(required())) or 'nothing'}; JIT {'off' if NO_JIT else 'on'}"


# --- the suite without the compiler ------------------------------------------------------------------------------

EXCLUDED = pytest.StashKey[tuple[int, int]]()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    excluded = 0
    for item in items:
        for mark in item.iter_markers("needs"):
            if not mark.args or not set(mark.args) <= set(CAPABILITIES):
                raise pytest.UsageError(f"{item.nodeid}: needs{mark.args} must name some of {list(CAPABILITIES)}")
        mark = item.get_closest_marker("no_jit_excluded")
        if mark is None:
            continue
        if len(mark.args) != 1 or not isinstance(mark.args[0], str) or not mark.args[0].strip():
            raise pytest.UsageError(f"{item.nodeid}: no_jit_excluded needs its reason, as one string")
        if NO_JIT:
            excluded += 1
            item.add_marker(pytest.mark.skip(reason=f"without JIT: {mark.args[0]}"))
    config.stash[EXCLUDED] = (excluded, len(items))
    if hasattr(config, "workerinput"):
        sharing.order(items)


def _too_many_excluded(config: pytest.Config) -> bool:
    """Whether the share is above the limit; judged for the whole suite only."""
    excluded, total = config.stash[EXCLUDED]
    return NO_JIT and sharing.whole(config) and excluded > EXCLUDED_LIMIT * total


def pytest_collection_finish() -> None:
    """Modules and tests live to the end: no collection of garbage, by a test or by itself, need look through them."""
    gc.freeze()


# --- what was proved ---------------------------------------------------------------------------------------------

BROKEN_OFF = pytest.StashKey[bool]()
LEDGER = pytest.StashKey[sharing.Ledger]()


def _shortfalls(config: pytest.Config) -> list[str]:
    """Return what the whole suite checked too little of; nothing if it was not run to its end."""
    if not sharing.whole(config) or config.stash[BROKEN_OFF]:
        return []
    return config.stash[LEDGER].shortfalls() + proof.shortfalls(NO_JIT, lambda name: CAPABILITIES[name][0]())


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: Any) -> None:
    """Under ``-n``: take over what one of the processes that share the tests has counted."""
    found = getattr(node, "workeroutput", {}).get("minicnn")
    if found is not None:
        proof.take_over(found["proof"])
        node.config.stash[TABLE].rows.extend(GradientRow(*row) for row in found["gradients"])
        node.config.stash[EXCLUDED] = tuple(found["excluded"])  # of all tests: every process collects them all


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):  # one of the processes of -n: the first one judges
        session.config.workeroutput["minicnn"] = {
            "proof": proof.records(), "gradients": [tuple(row) for row in session.config.stash[TABLE].rows],
            "excluded": session.config.stash[EXCLUDED], "collected": session.config.stash[LEDGER].collected}
        return
    session.config.stash[BROKEN_OFF] = bool(
        session.shouldfail or session.shouldstop or session.exitstatus == pytest.ExitCode.INTERRUPTED)
    unproved = _too_many_excluded(session.config) or _shortfalls(session.config)
    if unproved and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


# --- gradients: what was measured --------------------------------------------------------------------------------

TABLE = pytest.StashKey[GradientTable]()


@pytest.fixture(scope="session")
def gradient_table(request: pytest.FixtureRequest) -> GradientTable:
    return request.config.stash[TABLE]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    table = config.stash[TABLE]
    if table.rows:
        chosen = config.getoption("markexpr") or ""
        asked = "gradient" in chosen and "not gradient" not in chosen
        terminalreporter.section("gradients")
        for line in table.lines() if asked else [table.summary()]:
            terminalreporter.line(line)
    if NO_JIT:
        excluded, total = config.stash[EXCLUDED]
        share = f"without JIT: {excluded} of {total} tests excluded ({excluded / max(total, 1):.1%})"
        if _too_many_excluded(config):
            terminalreporter.line(f"{share}: more than {EXCLUDED_LIMIT:.0%}, so this run fails", red=True)
        else:
            terminalreporter.line(share)
    shortfalls = _shortfalls(config)
    if proof.TALLIES or shortfalls:
        terminalreporter.section("proof")
        for line in proof.lines():
            terminalreporter.line(line)
        for line in shortfalls:
            terminalreporter.line(f"NOT PROVED: {line}, so this run fails", red=True)


# --- fixtures ----------------------------------------------------------------------------------------------------

@pytest.fixture
def use_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return ``kernels.use``; the set in force before comes back afterwards."""
    from minicnn import kernels
    monkeypatch.setattr(kernels, "_active", kernels._active)
    return kernels.use


@pytest.fixture(params=("reference", "fast"))
def kernel_set(request: pytest.FixtureRequest, use_kernels: Callable[[str], None]) -> str:
    """Run the test once under each kernel set."""
    use_kernels(request.param)
    return request.param


@pytest.fixture
def reference_kernels(use_kernels: Callable[[str], None]) -> None:
    """Run the test under the reference kernels: nothing to compile, and the same with and without JIT."""
    use_kernels("reference")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], None]]:
    """Yield ``set_threads``; the setting before comes back afterwards."""
    from minicnn.kernels import threads as module
    before = module._threads
    yield module.set_threads
    module.set_threads(before)


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """Return a generator whose numbers depend on the test's file and name alone."""
    return np.random.default_rng([SEED, zlib.crc32(f"{request.path.name}::{request.node.name}".encode())])


@pytest.fixture
def data(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return eleven inputs for ``networks.small_dense``, and their classes."""
    from networks import draw_images
    return draw_images(rng, 11, (4,))


@pytest.fixture
def takes_for_mnist(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[np.ndarray]], None]:
    """Return a function that makes the library take four arrays for MNIST's."""
    from minicnn.datasets import mnist
    from mnist_files import described
    return lambda arrays: monkeypatch.setattr(mnist, "FILES", described(arrays))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the library a checkout, a cache and MINICNN_DATA of this test's own, all of them empty."""
    from minicnn.datasets import _places
    monkeypatch.setattr(_places, "checkout_root", lambda: tmp_path / "checkout")
    monkeypatch.setattr(_places, "user_cache", lambda: tmp_path / "cache")
    monkeypatch.setenv("MINICNN_DATA", str(tmp_path / "chosen"))
    return tmp_path


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave empty files in place of a run's pictures; drawing them takes seconds."""
    import dataclasses

    import folder
    import pictures
    undrawn = {name: dataclasses.replace(entry, draw=lambda material: None)
               for name, entry in pictures.PICTURES.items()}
    monkeypatch.setattr(pictures, "PICTURES", undrawn)
    monkeypatch.setattr(folder, "save_figure", lambda figure, path: path.touch())


# --- no network --------------------------------------------------------------------------------------------------

def _is_local(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    return host in (None, "", "localhost", "::1", "0.0.0.0", "::") or str(host).startswith("127.")


def _refuse(host: Any) -> None:
    # Not an OSError: code that handles a dead network must not swallow it.
    pytest.fail(f"a test reached for the network ({host!r}); tests may only talk to 127.0.0.1", pytrace=True)


def _forbid_network() -> None:
    """Make a connection to another machine fail the test, and make it impossible in the processes tests start."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        os.environ[name] = os.environ[name.upper()] = "http://no-network-in-tests.invalid:9"
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = "localhost,127.0.0.1,::1"
    original_lookup = socket.getaddrinfo

    def lookup(host: Any, *args: Any, **kwargs: Any) -> Any:
        return original_lookup(host, *args, **kwargs) if _is_local(host) else _refuse(host)

    def guard(original: Callable[..., Any]) -> Callable[..., Any]:
        def connect(self: socket.socket, address: Any) -> Any:
            if self.family in (socket.AF_INET, socket.AF_INET6) and not _is_local(address[0]):
                _refuse(address)
            return original(self, address)
        return connect

    socket.getaddrinfo = lookup  # type: ignore[assignment]
    socket.socket.connect = guard(socket.socket.connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = guard(socket.socket.connect_ex)  # type: ignore[method-assign]
