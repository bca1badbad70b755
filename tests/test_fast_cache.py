"""The compile cache of the fast kernels: edits take effect, and no trouble with files reaches the user."""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pytest

import minicnn
from fast_processes import finish, noted, run, start
from minicnn import files
from minicnn.kernels.fast import compile as compiling
from read_only import PRELUDE, read_only

NO_JIT = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
needs_jit = pytest.mark.no_jit_excluded("is about what the compiler leaves behind")

CALLEE = """
from minicnn.kernels.fast.compile import jit

@jit
def callee(x):
    return x + {summand}
"""
CALLER = """
from minicnn.kernels.fast.callee import callee
from minicnn.kernels.fast.compile import jit

@jit
def caller(x):
    return callee(x)
"""
PROGRAM = """
from minicnn.kernels.fast import compile
from minicnn.kernels.fast.caller import caller
before = compile.cold()
value = caller(1)
hits = sum(caller.stats.cache_hits.values()) if hasattr(caller, "stats") else "none"
print(value, "hits", hits, "cold", before, compile.cold())
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of the package with two more kernels, one calling the other from another file."""
    root = tmp_path / "tree"
    shutil.copytree(Path(minicnn.__file__).parent, root / "minicnn", ignore=shutil.ignore_patterns("__pycache__"))
    (root / "minicnn/__init__.py").write_text("")  # imports faster
    folder = root / "minicnn/kernels/fast"
    (folder / "__init__.py").write_text("")
    (folder / "callee.py").write_text(CALLEE.format(summand=1))
    (folder / "caller.py").write_text(CALLER)
    return root


@needs_jit
def test_edit_of_a_callee_in_another_file_takes_effect(tree: Path, tmp_path: Path) -> None:
    cache, callee = tmp_path / "cache", tree / "minicnn/kernels/fast/callee.py"
    assert run(tree, cache, PROGRAM) == "2 hits 0 cold True False"
    assert run(tree, cache, PROGRAM) == "2 hits 1 cold False False"
    callee.write_text(CALLEE.format(summand=5))
    assert run(tree, cache, PROGRAM) == "6 hits 0 cold True False"
    assert run(tree, cache, PROGRAM) == "6 hits 1 cold False False"
    callee.write_text(CALLEE.format(summand=1))
    assert run(tree, cache, PROGRAM) == "2 hits 1 cold False False"  # the first folder is still there
    assert len(list((cache / "minicnn-kernels").iterdir())) == 2


@needs_jit
def test_compiled_code_goes_to_our_folder_and_user_functions_to_theirs(tree: Path, tmp_path: Path) -> None:
    cache, theirs = tmp_path / "cache", tmp_path / "theirs"
    (tree / "own.py").write_text("import numba\n@numba.njit(cache=True)\ndef own(x):\n    return x + 1\n")
    before = sorted((tree / "minicnn").rglob("*"))
    run(tree, cache, PROGRAM + "from own import own\nown(1)\n", NUMBA_CACHE_DIR=str(theirs),
        NUMBA_CACHE_LOCATOR_CLASSES=None)
    assert sorted((tree / "minicnn").rglob("*")) == before  # nothing is written into the package
    ours = {path.name.split("-")[0] for path in cache.rglob("*.nbi")}
    assert ours == {"caller.caller"} | ({"callee.callee"} & ours)
    assert [path.name.split("-")[0] for path in theirs.rglob("*.nbi")] == ["own.own"]


@needs_jit
def test_a_damaged_cache_is_compiled_anew(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    run(tree, cache, PROGRAM)
    files = [path for path in cache.rglob("*") if path.is_file()]
    assert files
    for path in files:
        path.write_bytes(path.read_bytes()[:20])
    assert run(tree, cache, PROGRAM).startswith("2 hits 0")
    assert run(tree, cache, PROGRAM) == "2 hits 1 cold False False"


@needs_jit
def test_a_folder_that_cannot_be_made_is_no_error(tree: Path, tmp_path: Path) -> None:
    obstacle = tmp_path / "a file"
    obstacle.write_text("")
    for cache in (obstacle, obstacle / "cache"):    # both are what MINICNN_CACHE_DIR may name
        output, notes = noted(tree, cache, PROGRAM)
        assert output == "2 hits 0 cold True False"
        assert len(notes) == 1
        assert re.fullmatch(rf"{cache}/minicnn-kernels/\w+: Not a directory", notes[0])


@needs_jit
def test_a_read_only_folder_is_no_error(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    with read_only(cache):
        output, notes = noted(tree, cache, PRELUDE + PROGRAM)
    assert output == "2 hits 0 cold True False"
    assert [note.rpartition(": ")[2] for note in notes] == ["Permission denied"]


def test_a_missing_home_is_no_error(tree: Path, tmp_path: Path) -> None:
    homeless = {"HOME": None, "XDG_CACHE_HOME": str(tmp_path / "unused"), "LOCALAPPDATA": None,
                "MINICNN_CACHE_DIR": None}
    assert run(tree, None, PROGRAM, **homeless).startswith("2 ")
    (tmp_path / "home").mkdir()
    with read_only(tmp_path / "home"):    # as of daemons, whose home is /nonexistent
        output, notes = noted(tree, None, PRELUDE + PROGRAM, **(homeless | {
            "XDG_CACHE_HOME": None, "HOME": str(tmp_path / "home/missing")}))
    assert output.startswith("2 ")
    assert [note.rpartition(": ")[2] for note in notes] == ([] if NO_JIT else ["Permission denied"])
    no_home = "import pathlib\ndef home(): raise RuntimeError\npathlib.Path.home = home\n"
    output, notes = noted(tree, None, no_home + PROGRAM, **(homeless | {"XDG_CACHE_HOME": None}))
    assert output.startswith("2 hits none" if NO_JIT else "2 hits 0 cold True False")
    assert notes == ([] if NO_JIT else ["there is no home folder"])


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("MINICNN_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    key = compiling.source_hash()[:20]
    for platform, place in (("linux", ".cache"), ("darwin", "Library/Caches"), ("win32", "AppData/Local")):
        monkeypatch.setattr(sys, "platform", platform)
        assert compiling._find_cache_folder() == tmp_path / place / "minicnn" / "minicnn-kernels" / key
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert compiling._find_cache_folder() == tmp_path / "xdg" / "minicnn" / "minicnn-kernels" / key
    monkeypatch.setenv("MINICNN_CACHE_DIR", str(tmp_path / "own"))
    assert compiling._find_cache_folder() == tmp_path / "own" / "minicnn-kernels" / key


@needs_jit
def test_processes_that_compile_at_once(tree: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    processes = [start(tree, cache, PROGRAM) for _ in range(3)]
    assert all(finish(process).startswith("2 ") for process in processes)
    assert run(tree, cache, PROGRAM) == "2 hits 1 cold False False"


def compiled(folder: Path, age: int, *more: str) -> Path:
    """Make a folder as Numba fills it, of that age, with ``more`` files."""
    folder.mkdir(parents=True)
    for name in ("dense._add-70.py313.nbi", "dense._add-70.py313.1.nbc", "dense._add-70.py313.nbi.tmp.0123456789abcdef",
                 *more):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("")
    os.utime(folder, (1e9 - age, 1e9 - age))
    return folder


def test_old_folders_go_and_the_newest_stay(tmp_path: Path) -> None:
    folders = [compiled(tmp_path / (f"{age:x}" * 20), age) for age in range(8)]
    compiling.remove_old_folders(folders[7])  # ours, although it is the oldest
    assert sorted(path.name[0] for path in tmp_path.iterdir()) == ["0", "1", "2", "7"]


def test_nothing_of_others_is_ever_removed(tmp_path: Path) -> None:
    """The folder may be one the user named, with anything in it."""
    for age in range(4):
        compiled(tmp_path / (f"{age:x}" * 20), age)
    foreign = [compiled(tmp_path / "thesis", 10), compiled(tmp_path / ("a" * 19), 11),
               compiled(tmp_path / ("A" * 20), 12), compiled(tmp_path / ("b" * 21), 13),
               compiled(tmp_path / ("c" * 20), 14, "notes.txt"), compiled(tmp_path / ("d" * 20), 15, "cats/cat.nbi"),
               compiled(tmp_path / ("e" * 20), 16, "my.nbi.bak")]
    elsewhere = compiled(tmp_path.parent / f"{tmp_path.name} elsewhere", 17)
    if os.name == "posix":
        (tmp_path / ("f" * 20)).symlink_to(elsewhere, target_is_directory=True)
    (tmp_path / ("9" * 20)).write_text("a file")
    everything = {path for folder in (*foreign, elsewhere) for path in folder.rglob("*")}
    compiling.remove_old_folders(tmp_path / ("7" * 20))
    assert all(path.exists() for path in everything)
    assert (tmp_path / ("9" * 20)).read_text() == "a file"
    assert [age for age in range(4) if (tmp_path / (f"{age:x}" * 20)).exists()] == [0, 1, 2]  # ours goes as before


def test_a_relative_cache_does_not_move_with_chdir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINICNN_CACHE_DIR", f"relative-{tmp_path.name}")
    first = files.user_cache()
    assert first == tmp_path / f"relative-{tmp_path.name}"
    monkeypatch.chdir(tmp_path / "below")
    assert files.user_cache() == first


def test_the_home_of_nobody_is_a_clear_error(tmp_path: Path) -> None:
    program = "import minicnn.errors\ntry:\n    import minicnn.kernels.fast.compile\n" \
              "except minicnn.errors.ArgumentError as error:\n    print(error)"
    output = run(Path(minicnn.__file__).parent.parent, None, program, MINICNN_CACHE_DIR="~nosuchuser/x")
    assert output == ("MINICNN_CACHE_DIR is '~nosuchuser/x', and there is no such user's home folder here; expected "
                      "the path of a folder. Correct or unset it.")


def test_import_compiles_nothing(tmp_path: Path) -> None:
    program = """
import numba, minicnn.kernels.fast
from numba.core.dispatcher import Dispatcher
import sys
kernels = [value for name, module in list(sys.modules.items()) if name.startswith("minicnn.kernels.fast")
           for value in vars(module).values() if isinstance(value, Dispatcher)]
print(len(kernels) > 20, sum(len(kernel.signatures) for kernel in kernels))
"""
    root = Path(minicnn.__file__).parent.parent
    assert run(root, tmp_path, program, NUMBA_DISABLE_JIT="0") == "True 0"
    assert not list(tmp_path.iterdir())


# --- in this process, without the compiler: no trouble with files reaches the user --------------------------------

@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of compiled kernels, in another place; nobody has used it yet."""
    folder = tmp_path / "minicnn-kernels" / ("0" * 20)
    monkeypatch.setattr(compiling, "_FOLDER", folder)
    monkeypatch.setattr(compiling, "_used", False)
    return folder


def test_kernels_are_cold_until_compiled_code_is_found_or_made(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling.numba.config, "DISABLE_JIT", 0)
    assert compiling.cache_folder() == folder
    assert compiling.cold()    # there is no such folder
    folder.mkdir(parents=True)
    (folder / "notes.txt").touch()
    assert compiling.cold()
    (folder / "dense._add-70.py313.nbi").touch()
    assert not compiling.cold()
    monkeypatch.setattr(compiling, "_FOLDER", None)
    assert compiling.cold()
    compiling._first_use()
    assert not compiling.cold()
    monkeypatch.setattr(compiling, "_used", False)
    monkeypatch.setattr(compiling.numba.config, "DISABLE_JIT", 1)
    assert not compiling.cold()


def test_the_first_use_marks_the_folder_and_removes_old_ones_once(folder: Path) -> None:
    old = [compiled(folder.parent / (f"{age:x}" * 20), age) for age in range(1, 6)]
    compiling._first_use()
    assert folder.is_dir()
    assert [path.exists() for path in old] == [True, True, True, False, False]
    again = compiled(folder.parent / ("e" * 20), 9)
    compiling._first_use()
    assert again.exists()


def kernel(x: int) -> int:
    return x + 1


def test_a_kernel_is_kept_in_our_folder_under_its_name_and_line(folder: Path) -> None:
    impl = compiling._Cache(kernel)._impl
    assert impl.locator.get_cache_path() == str(folder)
    assert impl.locator.get_source_stamp() == folder.name
    assert impl.filename_base.startswith(f"test_fast_cache.kernel-{kernel.__code__.co_firstlineno}.")
    assert isinstance(compiling._Locator.from_function(kernel, "elsewhere.py"), compiling._Locator)


@pytest.mark.parametrize("trouble", [OSError(28, "No space left on device"), EOFError(), ValueError("damaged")])
def test_trouble_with_the_cache_is_no_error(folder: Path, monkeypatch: pytest.MonkeyPatch, trouble: Exception) -> None:
    flushed = []

    def fail(self: object, *arguments: object) -> None:
        raise trouble

    monkeypatch.setattr(compiling.FunctionCache, "load_overload", fail)
    monkeypatch.setattr(compiling.FunctionCache, "save_overload", fail)
    monkeypatch.setattr(compiling.FunctionCache, "flush", lambda self: flushed.append(self))
    cache = compiling._Cache(kernel)
    assert cache.load_overload("signature", None) is None
    assert flushed == [cache]    # what cannot be read is forgotten
    compiling._say_it_cannot_be_kept.cache_clear()
    if isinstance(trouble, OSError):
        with pytest.warns(UserWarning, match=rf"cannot be kept \({folder}: No space left on device\); .* Set"):
            cache.save_overload("signature", None)
    cache.save_overload("signature", None)    # it is said once
    assert compiling._used
    compiling._say_it_cannot_be_kept.cache_clear()


def test_what_is_found_counts_as_the_first_use(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for a kernel without arguments."""
    cache = compiling._Cache(kernel)
    for found, used in ((None, False), ("machine code", True)):
        monkeypatch.setattr(compiling.FunctionCache, "load_overload", lambda *arguments, found=found: found)
        assert cache.load_overload((), None) == found
        assert compiling._used == folder.exists() == used
    monkeypatch.setattr(compiling, "_FOLDER", None)
    assert cache.load_overload((), None) is None    # nobody is asked who has no home
    compiling._say_it_cannot_be_kept.cache_clear()
    with pytest.warns(UserWarning, match=r"cannot be kept \(there is no home folder\)"):
        cache.save_overload((), None)
    compiling._say_it_cannot_be_kept.cache_clear()
