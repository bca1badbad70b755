"""The process that makes mistakes: it imports minicnn with one edited file and runs tests on it.

``python worker.py`` reads requests from stdin, one JSON object a line ("module", "path", "source", "set", "tests"), and
answers each with a line ("outcome", "by", "detail"). Where processes can be forked, each request gets a fork of this
one, which has NumPy and pytest loaded but nothing of minicnn; elsewhere it gets a process of its own.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import importlib.machinery
import importlib.util
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 60  # seconds of processor time for one request: an endless loop is a crash
PATIENCE = 1200  # seconds by the clock, for the case that nothing moves any more
OPTIONS = ("-q", "--tb=no", "-p", "no:cacheprovider", "-p", "no:unraisableexception", "--assert=plain", "-W",
           "ignore::RuntimeWarning")  # a mistake must be seen in its numbers, not in an overflow on the way
WARM = ("numpy", "numba", "scipy.ndimage", "scipy.stats", "safetensors.numpy", "threadpoolctl", "tqdm.auto")


class EditedModule(importlib.machinery.SourceFileLoader):
    """Finds and loads one module from a text of our own; nothing is written to disk."""

    def __init__(self, name: str, path: str, source: str) -> None:
        super().__init__(name, path)
        self.text = source

    def get_code(self, fullname: str) -> Any:
        return compile(self.text, self.path, "exec", dont_inherit=True)

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        if fullname != self.name:
            return None
        folder = [str(Path(self.path).parent)] if self.path.endswith("__init__.py") else None
        return importlib.util.spec_from_file_location(fullname, self.path, loader=self,
                                                      submodule_search_locations=folder)


class Judge:
    """Keeps to the tests of one kernel set, and is done at the first failed assertion.

    Another exception is a crash: noted, and no catch. ``pytest.raises`` that saw nothing raised is an assertion.
    """

    def __init__(self, kernel_set: str, tests: list[str], done: Callable[[dict[str, str]], None]) -> None:
        self.kernel_set = kernel_set
        self.names = {test.partition("::")[2].partition("[")[0] for test in tests}
        self.done = done
        self.passed = 0
        self.caught: tuple[str, str] | None = None
        self.crashed: tuple[str, str] | None = None

    def pytest_collection(self) -> None:
        """Spare Hypothesis the search for the simplest example of a failure."""
        settings = hypothesis.settings
        settings.register_profile("mistakes", settings(), phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate])
        settings.load_profile("mistakes")

    def pytest_pycollect_makeitem(self, name: str) -> list[pytest.Item] | None:
        """Spare pytest the making of thousands of items that nobody asked for."""
        return [] if name.startswith("test_") and "" not in self.names and name not in self.names else None

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if self._chosen(item) in (None, self.kernel_set)]

    @staticmethod
    def _chosen(item: pytest.Item) -> str | None:
        """Return the kernel set of an item, which its parameter names or is; None for any."""
        params = item.callspec.params if hasattr(item, "callspec") else {}
        chosen = params.get("kernels", params.get("kernel_set"))
        return chosen if chosen is None or isinstance(chosen, str) else chosen.__name__.rpartition(".")[2]

    def pytest_runtest_protocol(self) -> bool | None:
        return True if self.caught else None

    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo) -> None:
        if call.excinfo is None:
            self.passed += call.when == "call"
        elif call.excinfo.errisinstance(pytest.skip.Exception):
            pass
        elif call.when == "call" and _is_assertion(call.excinfo.value):
            self.caught = item.nodeid, _first_line(call.excinfo.value)
            self.done(self.verdict(pytest.ExitCode.TESTS_FAILED))
        else:
            self.crashed = item.nodeid, f"{type(call.excinfo.value).__name__}: {_first_line(call.excinfo.value)}"

    def verdict(self, status: int) -> dict[str, str]:
        if self.caught:
            return {"outcome": "caught", "by": self.caught[0], "detail": self.caught[1]}
        if self.crashed:
            return {"outcome": "crashed", "by": self.crashed[0], "detail": self.crashed[1]}
        if status in (pytest.ExitCode.INTERRUPTED, pytest.ExitCode.INTERNAL_ERROR):
            return {"outcome": "crashed", "by": "", "detail": "the tests could not be collected"}
        if status == pytest.ExitCode.OK and self.passed:
            return {"outcome": "survived", "by": "", "detail": f"{self.passed} tests passed"}
        return {"outcome": "no test", "by": "", "detail": f"pytest ended with status {int(status)}"}


def _is_assertion(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):  # Hypothesis, when it finds several
        return any(map(_is_assertion, error.exceptions))
    return isinstance(error, (AssertionError, pytest.fail.Exception))


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [""])[0][:120]


def judge(request: dict[str, Any], done: Callable[[dict[str, str]], None] = lambda verdict: None) -> dict[str, str]:
    """Import minicnn with the edit and run the tests, in this process, which is good for nothing else afterwards.

    ``done`` is called with the verdict as soon as a test has caught the mistake; it need not return.
    """
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    if request["module"]:
        sys.meta_path.insert(0, EditedModule(request["module"], request["path"], request["source"]))
    os.environ["MINICNN_KERNELS"] = request["set"]
    plugin = Judge(request["set"], request["tests"], done)
    with quiet():
        status = pytest.main([*OPTIONS, "--rootdir", str(ROOT), "-c", str(ROOT / "setup.cfg"),
                              *(str(ROOT / "tests" / test) for test in request["tests"])], plugins=[plugin])
    return plugin.verdict(status)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), \
            contextlib.redirect_stderr(nowhere):
        yield


def start_fork(work: Callable[[Callable[[Any], None]], None]) -> Callable[[], str]:
    """Start a child; return what waits for its answer, which is JSON, or empty if it ended without.

    The child runs ``work(answer)`` and ends with its first ``answer(...)``: no request sees what another left behind.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        def answer(given: Any) -> None:
            os.write(writer, json.dumps(given).encode())
            os._exit(0)

        try:
            os.close(reader)
            work(answer)
        finally:
            os._exit(1)
    os.close(writer)

    def wait() -> str:
        with os.fdopen(reader, "rb") as pipe:
            text = pipe.read().decode()
        os.waitpid(child, 0)
        return text

    return wait


def judge_in_a_fork(line: str) -> str:
    """Return the answer of a child."""
    def work(answer: Callable[[Any], None]) -> None:
        signal.setitimer(signal.ITIMER_PROF, LIMIT)
        signal.alarm(PATIENCE)
        answer(judge(json.loads(line), answer))

    return start_fork(work)()


def judge_in_a_process(line: str) -> str:
    """Return the answer of a new process."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return subprocess.run([sys.executable, __file__, "once"], input=line, capture_output=True, text=True,
                              timeout=PATIENCE, check=False).stdout.strip()
    return ""


def compile_once() -> None:
    """Compile every file here and let all forks import that: two fifths of a request, where no .pyc is written."""
    loader = importlib.machinery.SourceFileLoader
    compiled = {str(path): compile(path.read_bytes(), path, "exec", dont_inherit=True)
                for folder in ("minicnn", "tests") for path in (ROOT / folder).rglob("*.py")}
    original = loader.get_code
    loader.get_code = lambda self, name: compiled.get(self.path) or original(self, name)  # type: ignore[method-assign]


def warm_up() -> None:
    """Import what every request needs, pytest's own plugins included, and nothing of minicnn."""
    compile_once()
    for name in WARM:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    with quiet():
        pytest.main([*OPTIONS, "--noconftest", "-c", os.devnull, "--collect-only", __file__])
    gc.freeze()  # a fork that looks through all this for garbage would have to copy it


def serve() -> None:
    """Answer requests until stdin ends."""
    forks = hasattr(os, "fork")
    if forks:
        warm_up()
    for line in sys.stdin:
        answer = (judge_in_a_fork if forks else judge_in_a_process)(line)
        print(answer or json.dumps({"outcome": "crashed", "by": "", "detail": "the process ended"}), flush=True)


if __name__ == "__main__":
    if sys.argv[1:] == ["once"]:
        print(json.dumps(judge(json.loads(sys.stdin.readline()))), flush=True)
    else:
        serve()
