"""A helper wakes up on another core than the thread that waits for it, and may use all of them afterwards."""

from __future__ import annotations

import os
import sys
import threading

import numpy as np
import pytest

from minicnn.kernels.fast import cores, parallel
from test_crew import compiled, who

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such calls")


@pytest.fixture
def sleeper():
    """Return a thread that sleeps."""
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    yield thread
    end.set()
    thread.join()


@linux
@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is one core")
def test_a_thread_is_kept_off_the_core_of_the_caller(sleeper, monkeypatch):
    mine = os.sched_getaffinity(0)
    here = min(mine)
    monkeypatch.setattr(cores, "_here", lambda: here)
    assert cores.keep_off(sleeper.native_id) == mine
    assert os.sched_getaffinity(sleeper.native_id) == mine - {here}
    assert cores.keep_off(sleeper.native_id) == mine - {here}          # what it might use, whatever the caller may
    assert os.sched_getaffinity(0) == mine
    seen = []
    thread = threading.Thread(target=lambda: (cores.spread({here}), seen.append(os.sched_getaffinity(0))))
    thread.start()
    thread.join()
    assert seen == [{here}]
    assert os.sched_getaffinity(0) == mine


@linux
def test_where_there_is_one_core_or_no_permission_nothing_happens(sleeper, monkeypatch):
    mine = os.sched_getaffinity(0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: {5})
    monkeypatch.setattr(cores, "_here", lambda: 5)
    monkeypatch.setattr(os, "sched_setaffinity", pytest.fail)
    assert cores.keep_off(sleeper.native_id) == {5}
    monkeypatch.undo()
    monkeypatch.setattr(os, "sched_setaffinity", lambda *arguments: (_ for _ in ()).throw(PermissionError))
    assert cores.keep_off(sleeper.native_id) == set()
    cores.spread(mine)
    monkeypatch.setattr(os, "sched_getaffinity", lambda thread: (_ for _ in ()).throw(PermissionError))
    assert cores.keep_off(sleeper.native_id) == set()


def test_where_the_system_has_no_such_calls_nothing_happens(sleeper, monkeypatch):
    monkeypatch.setattr(cores, "_here", None)
    assert cores.keep_off(sleeper.native_id) == set()
    cores.spread(set())


@linux
@compiled
def test_helpers_are_asked_for_once_while_they_are_awake_and_get_all_cores(threads, monkeypatch):
    threads(2)
    kept = []
    original = cores.keep_off
    monkeypatch.setattr(cores, "keep_off", lambda thread: (kept.append(thread), original(thread))[1])
    parallel.run(lambda chunk: None, 2)                     # a task of Python's recalls the helper
    assert who(2).min() >= 0
    helper = parallel._pool._helpers[0]
    assert kept == [helper.native_id]
    parallel.run(lambda chunk: None, 2)                     # it has been awake, and is back
    assert os.sched_getaffinity(helper.native_id) == os.sched_getaffinity(0)
    np.testing.assert_array_equal(kept, [helper.native_id])
