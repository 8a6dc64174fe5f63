"""Hashes that occur more than once: found in bounded memory, whatever the number of rows, and gone from disk afterwards."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
import tracemalloc
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
import pytest

from pushengine.cli.exit_codes import exit_code_for
from pushengine.errors import JournalError, SchemaError
from pushengine.pipeline.keys import runs as key_runs
from pushengine.pipeline.keys.hashes import hash_keys
from pushengine.pipeline.keys.runs import KeyRuns

KIB = 1024


def of(*numbers):
    return hash_keys([pa.array(numbers, pa.int64())])


def as_set(hashes):
    return {tuple(row) for row in hashes.tolist()}


def repeated(runs):
    found = runs.duplicates()
    assert [tuple(row) for row in found.tolist()] == sorted(as_set(found))
    return as_set(found)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "spool"


def test_nothing_was_added(folder):
    with KeyRuns(folder) as runs:
        assert runs.duplicates().shape == (0, 2)
        assert runs.memory_bytes == 0


def test_few_rows_stay_in_memory(folder):
    with KeyRuns(folder) as runs:
        runs.add(of(1, 2, 3))
        runs.add(of(3, 4, 1))
        assert repeated(runs) == as_set(of(1, 3))
        assert (runs.rows, runs.spilled_bytes) == (6, 0)
    assert not folder.exists()


@pytest.mark.parametrize("rows_per_call", [1, 7, 100, 5000])
def test_many_runs_are_merged(folder, rows_per_call):
    """Rows whose equal is in the same run, in the next one, and far away."""
    numbers = np.concatenate([np.arange(4000), [3999, 3990, 1234, 0]])
    with KeyRuns(folder, max_memory_bytes=6 * KIB) as runs:
        for start in range(0, len(numbers), rows_per_call):
            runs.add(of(*numbers[start : start + rows_per_call].tolist()))
        assert repeated(runs) == as_set(of(3999, 3990, 1234, 0))
        assert runs.spilled_bytes == 4004 * 16
        assert repeated(runs) == as_set(of(3999, 3990, 1234, 0))


def test_a_single_full_run(folder):
    with KeyRuns(folder, max_memory_bytes=64 * 96) as runs:
        runs.add(of(*range(63), 5))
        assert repeated(runs) == as_set(of(5))
        assert runs.spilled_bytes == 64 * 16


def test_equal_keys_take_no_more_space_than_two_in_each_run(folder):
    with KeyRuns(folder, max_memory_bytes=64 * 96) as runs:
        runs.add(of(*[7] * 6400, 8))
        assert repeated(runs) == as_set(of(7))
        assert runs.spilled_bytes == (100 * 2 + 1) * 16


def test_rows_that_share_one_half_of_the_hash_are_not_equal(folder):
    hashes = np.array([[5, 1], [5, 2], [6, 1], [6, 2], [5, 3], [7, 9], [7, 9]], np.uint64)
    with KeyRuns(folder) as runs:
        runs.add(hashes)
        assert repeated(runs) == {(7, 9)}


def test_more_alike_rows_than_are_read_at_once(folder):
    """Hashes that differ only in the bits by which runs are not sorted: reading must go on until it has passed them."""
    rows = [(number % 3, number // 3) for number in range(900)]
    with KeyRuns(folder, max_memory_bytes=64 * 96) as runs:
        runs.add(np.array([*rows, (1, 100), (2, 7)], np.uint64))
        assert repeated(runs) == {(1, 100), (2, 7)}


@pytest.mark.parametrize("kind", ["different", "equal", "twice"])
def test_memory_stays_within_the_limit_however_many_rows_there_are(folder, kind):
    limit, rows = 2048 * KIB, 400_000
    peaks = []
    for times in (1, 4):
        numbers = {
            "different": np.arange,
            "equal": lambda count: np.zeros(count, np.int64),
            "twice": lambda count: np.arange(count) // 2,
        }[kind](rows * times)
        found = 0
        with KeyRuns(folder, max_memory_bytes=limit) as runs:
            tracemalloc.start()
            for start in range(0, len(numbers), 10_000):
                runs.add(hash_keys([pa.array(numbers[start : start + 10_000])]))
            with runs._disk:
                pass
            added = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            for part in runs._ranges():
                found += len(key_runs._repeated(part))
            peaks.append(max(added, tracemalloc.get_traced_memory()[1]))
            tracemalloc.stop()
            assert runs.memory_bytes == limit
        assert found == {"different": 0, "equal": 1, "twice": rows * times // 2}[kind]
    assert max(peaks) < 1.2 * limit, peaks
    assert peaks[1] < peaks[0] * 1.2, peaks


def test_threads_add_at_the_same_time(folder):
    with KeyRuns(folder, max_memory_bytes=100 * 96) as runs, ThreadPoolExecutor(8) as threads:
        calls = [threads.submit(runs.add, of(*range(start, start + 70))) for start in range(0, 70_000, 70)]
        calls.append(threads.submit(runs.add, of(33, 69_999)))
        for call in calls:
            call.result()
        assert runs.rows == 70_002
        assert repeated(runs) == as_set(of(33, 69_999))


def test_the_caller_may_reuse_its_array(folder):
    with KeyRuns(folder) as runs:
        hashes = of(1, 2)
        runs.add(hashes)
        hashes[:] = 0
        assert repeated(runs) == set()


def test_the_file_has_no_name_and_is_gone_after_close(folder):
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    runs = KeyRuns(folder, max_memory_bytes=KIB)
    runs.add(of(*range(1000)))
    assert list(folder.iterdir()) == []
    runs.close()
    runs.close()
    assert runs._filling is None
    assert runs._free == []
    assert len(os.listdir("/proc/self/fd") if before else []) == len(before)
    runs.add(of(1))  # a thread that outlives its push


def test_close_releases_a_thread_that_waits_for_a_buffer(folder):
    runs = KeyRuns(folder, max_memory_bytes=4 * 96)
    waits, wait = threading.Event(), runs._changed.wait
    runs._changed.wait = lambda: (waits.set(), wait())
    with ThreadPoolExecutor(4) as threads:
        with runs._disk:  # a slow disk: both buffers are full
            calls = [threads.submit(runs.add, of(*range(start, start + 4))) for start in (0, 4, 8)]
            assert waits.wait(10)
            calls.append(threads.submit(runs.close))
            assert len(futures.wait(calls, 10, futures.FIRST_COMPLETED).done) == 1
        assert len(futures.wait(calls, 10).done) == 4
    assert (runs._filling, runs._free, runs._file) == (None, [], None)


class FullFile:
    """A temporary file on a full disk."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        self._room -= data.nbytes
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._file.write(data)

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_full_disk_is_a_temporary_error_and_leaves_nothing_behind(folder, monkeypatch):
    real = tempfile.TemporaryFile
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **options: FullFile(real(**options), 8 * KIB))
    with KeyRuns(folder, max_memory_bytes=24 * KIB) as runs:
        with pytest.raises(JournalError, match="No space left") as caught:
            runs.add(of(*range(2000)))
        assert exit_code_for(caught.value) == 75
        assert caught.value.path == str(folder)
        assert "16 bytes per row" in caught.value.hint
        runs.close()
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with KeyRuns(tmp_path / "file" / "spool", max_memory_bytes=KIB) as runs:
        with pytest.raises(JournalError, match="Not a directory") as caught:
            runs.add(of(*range(100)))
        assert exit_code_for(caught.value) == 2


def test_a_file_that_was_cut_short_is_an_error(folder):
    with KeyRuns(folder, max_memory_bytes=KIB) as runs:
        runs.add(of(*range(100)))
        runs._file.truncate(16)
        with pytest.raises(JournalError, match="cut short"):
            runs.duplicates()


def test_too_many_keys_that_occur_more_than_once(folder):
    with KeyRuns(folder, max_memory_bytes=KIB, source="f.csv") as runs:
        runs.add(of(*range(100), *range(100)))
        with pytest.raises(SchemaError, match=r"f\.csv: more than 99 keys occur more than once"):
            runs.duplicates(max_keys=99)
        assert len(runs.duplicates(max_keys=100)) == 100
