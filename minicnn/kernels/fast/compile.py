"""The ``jit`` decorator of the fast kernels, and where compiled code is kept.

Numba compiles a kernel at its first call and can keep the machine code on disk, but it notices an edit only in the
file of the kernel itself, not in that of a function the kernel calls. Here the cache folder is named by a hash over
*all* files beside this one, so an edit anywhere takes effect at the next run. The cache is a convenience: where it
cannot be read, kernels are compiled in memory and nothing is said; where it cannot be written, one note says why the
next process will have to compile them again.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core import sigutils
from numba.core.caching import CompileResultCacheImpl, FunctionCache, _CacheLocator

from minicnn.files import user_cache
from minicnn.kernels.fast.shared import provide

# Sums may be reordered (vectorised); NaN and infinity keep their meaning: never "nnan" or "ninf". But "arcp" and
# "reassoc" together let x / sqrt(y) be estimated, which gives NaN where y is infinite: RMSprop takes FASTMATH_ORDERED.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
# For code that cancels on purpose: (x - a) - b must not become x - (a + b).
FASTMATH_ORDERED = {"contract", "nsz"}

# As arguments of a kernel: for a number that stands in the source Numba would compile the kernel once more.
ZERO, ONE = np.int64(0), np.int64(1)

KEPT_FOLDERS = 4  # compiled versions of the sources on disk, this one included
KEY_DIGITS = 20  # of the hash, in a folder's name

_used = False  # has this process compiled or loaded a kernel?


def jit(function: Callable | None = None, *, fastmath: set[str] = FASTMATH, inline: str = "never", keep: bool = True,
        ) -> Any:
    """Compile a kernel lazily, without the GIL, with the cache described above.

    Parameters
    ----------
    function : callable
        The kernel. Under ``NUMBA_DISABLE_JIT=1`` it is returned as it is.
    fastmath : set of str, optional
        LLVM's flags; ``FASTMATH_ORDERED`` where the order of a difference matters.
    inline : {"never", "always"}
        Numba's inlining; LLVM inlines small functions by itself.
    keep : bool
        Whether to keep the machine code on disk.

    Returns
    -------
    callable
        A dispatcher that compiles one specialisation per combination of argument types.
    """
    if function is None:
        return lambda kernel: jit(kernel, fastmath=fastmath, inline=inline, keep=keep)
    compiled = numba.njit(nogil=True, error_model="numpy", fastmath=fastmath, inline=inline)(function)
    if keep and not numba.config.DISABLE_JIT:  # pragma: no cover - with the compiler only
        compiled._cache = _Cache(function)  # what njit(cache=True) does, with our class in place of Numba's
    return compiled


def inner(function: Callable | None = None, *, fastmath: set[str] = FASTMATH, inline: str = "never") -> Any:
    """Like :func:`jit`, for a part that only kernels call: its machine code is within theirs, and needs no file."""
    return jit(function, fastmath=fastmath, inline=inline, keep=False)


def cold() -> bool:
    """Tell whether kernels are still to be compiled here: neither done by this process nor found on disk."""
    if numba.config.DISABLE_JIT or _used:
        return False
    folder = cache_folder()
    try:
        return folder is None or not any(name.endswith(".nbi") for name in os.listdir(folder))
    except OSError:
        return True


def source_hash() -> str:
    """Return the SHA-256 over the sources of this folder and the versions of Numba and NumPy."""
    digest = hashlib.sha256(f"numba {numba.__version__} numpy {np.__version__}".encode())
    folder = Path(__file__).parent
    with contextlib.suppress(OSError):  # sources unreadable (a zip): versions alone must do
        for path in sorted(folder.glob("*.py")):
            text = path.read_bytes()
            digest.update(f"\n{path.name} {len(text)}\n".encode() + text)
    return digest.hexdigest()


def cache_folder() -> Path | None:
    """Return the folder of the compiled kernels (it need not exist), or None if the user has no home."""
    return _FOLDER


def _find_cache_folder() -> Path | None:
    base = user_cache()
    return base / "minicnn-kernels" / source_hash()[:KEY_DIGITS] if base is not None else None


class _Locator(_CacheLocator):
    """Tells Numba where a kernel's cache files are. Folder and stamp both follow from the hash of all sources."""

    def __init__(self, function: Callable) -> None:
        self._py_file = function.__code__.co_filename  # named in Numba's warnings
        self._lineno = function.__code__.co_firstlineno

    @classmethod
    def from_function(cls, py_func: Callable, py_file: str) -> _Locator:
        return cls(py_func)

    def get_cache_path(self) -> str:
        return str(_FOLDER)

    def get_source_stamp(self) -> str:
        return _FOLDER.name if _FOLDER is not None else ""

    def get_disambiguator(self) -> str:
        return str(self._lineno)


class _CacheImpl(CompileResultCacheImpl):
    """Always our locator, whatever the user configured for their own functions."""

    def __init__(self, function: Callable) -> None:
        self._lineno = function.__code__.co_firstlineno
        self._locator = _Locator(function)
        module = Path(function.__code__.co_filename).stem
        self._filename_base = self.get_filename_base(f"{module}.{function.__qualname__}", getattr(sys, "abiflags", ""))


class _Cache(FunctionCache):
    """Numba's cache of one function, except that no trouble with files ever reaches the user.

    Numba writes each file under a temporary name and renames it, so processes that compile at the same time do not
    disturb each other; at worst both do the work.
    """

    _impl_class = _CacheImpl

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        if _FOLDER is None:
            return None
        try:
            provide(self._py_func, sigutils.normalize_signature(sig)[0])
            found = super().load_overload(sig, target_context)
        except Exception:  # unreadable, truncated or damaged: forget it and compile again
            with contextlib.suppress(OSError):
                self.flush()
            return None
        if found is not None:
            _first_use()
        return found

    def save_overload(self, sig: Any, data: Any) -> None:
        _first_use()
        if _FOLDER is None:
            _say_it_cannot_be_kept("there is no home folder")
            return
        try:
            super().save_overload(sig, data)
        except OSError as error:  # the folder is read-only, or the disk full
            _say_it_cannot_be_kept(f"{_FOLDER}: {error.strerror or error}")
        except Exception:  # the index is damaged
            return


@functools.cache
def _say_it_cannot_be_kept(reason: str) -> None:
    """Say once why kernels will be compiled again next time."""
    warnings.warn(f"Compiled kernels cannot be kept ({reason}); every process compiles its own, which takes up to half "
                  f"a minute. Set MINICNN_CACHE_DIR to a folder in which this user may write.", UserWarning,
                  stacklevel=2)


def _first_use() -> None:
    """Mark the folder as used now and remove the oldest others, once per process."""
    global _used
    if _used:
        return
    _used = True
    if _FOLDER is None:
        return
    with contextlib.suppress(OSError):
        _FOLDER.mkdir(parents=True, exist_ok=True)
        os.utime(_FOLDER)
        remove_old_folders(_FOLDER)


def remove_old_folders(folder: Path) -> None:
    """Keep ``folder`` and the most recently used beside it. A process that loses its folder makes it anew.

    The place may be one the user named, so nothing goes but folders with a name like ours that hold compiled code and
    nothing else, and of them file by file what was seen.
    """
    others = [(path.stat().st_mtime, path) for path in folder.parent.iterdir() if path != folder and _is_ours(path)]
    for _, path in sorted(others, reverse=True)[KEPT_FOLDERS - 1:]:
        with contextlib.suppress(OSError):  # another process is at it
            for name in os.listdir(path):
                if _is_compiled(path / name):
                    (path / name).unlink()
            path.rmdir()


def _is_ours(folder: Path) -> bool:
    """Tell whether a folder is named by a hash and holds compiled code alone."""
    named = re.fullmatch(f"[0-9a-f]{{{KEY_DIGITS}}}", folder.name)
    return bool(named) and not folder.is_symlink() and folder.is_dir() and all(map(_is_compiled, folder.iterdir()))


def _is_compiled(path: Path) -> bool:
    """Tell whether a file is one of Numba's: an index, machine code, or either before it got its name."""
    named = re.fullmatch(r".+\.py\d+\w*\.(nbi|\d+\.nbc)(\.tmp\.[0-9a-f]+)?", path.name)
    return bool(named) and path.is_file() and not path.is_symlink()


_FOLDER = _find_cache_folder()
