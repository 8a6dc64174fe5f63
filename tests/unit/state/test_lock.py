"""File locks of the operating system: on POSIX, without `fcntl`, and on systems that cannot lock files."""

import asyncio
import contextlib
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pushengine.cli import exit_codes
from pushengine.errors import JournalError, JournalLockedError, SourceReadError
from pushengine.sources.spool import SpoolHold, spool_bytes
from pushengine.state import lock as lock_module
from pushengine.state.lock import FileLock, PushLock, TableLock, holder_of

ROOT = Path(__file__).parents[3]
WITHOUT_FCNTL = ROOT / "tests" / "support" / "without_fcntl"

HOLD = """
import sys
from pathlib import Path
from pushengine.state.lock import PushLock
lock = PushLock(Path(sys.argv[1]), "i")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "file"
    made.write_bytes(b"content")
    return made


def locked(path, **options):
    return FileLock(os.open(path, os.O_RDWR), **options)


def is_free(path, **options):
    try:
        locked(path, **options).release()
    except BlockingIOError:
        return False
    return True


@contextlib.contextmanager
def holder(folder):
    """Start a process that holds the lock of push `i`; kill it when the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def test_an_exclusive_lock_excludes_all_others_until_it_is_released(path):
    lock = locked(path)
    assert [is_free(path), is_free(path, is_shared=True)] == [False, False]
    lock.release()
    lock.release()
    assert is_free(path)


def test_shared_locks_exclude_only_exclusive_ones(path):
    locks = [locked(path, is_shared=True) for _ in range(20)]
    for lock in locks:
        assert [is_free(path), is_free(path, is_shared=True)] == [False, True]
        lock.release()
    assert is_free(path)


def test_a_refused_lock_leaves_no_file_open(path):
    lock = locked(path)
    descriptor = os.open(path, os.O_RDONLY)
    with pytest.raises(BlockingIOError):
        FileLock(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.close(descriptor)
    lock.release()


def test_a_locked_file_can_be_read_and_written_by_others(path):
    """On Windows, a locked byte cannot be read or written by others."""
    lock = locked(path)
    path.write_bytes(b"another content")
    assert path.read_bytes() == b"another content"
    lock.release()


def test_the_holder_of_a_push_is_known_while_it_runs(tmp_path):
    assert holder_of(tmp_path, "i") is None
    with holder(tmp_path) as process:
        assert holder_of(tmp_path, "i") == process.pid
        with pytest.raises(JournalLockedError, match=f"held by pid {process.pid}") as caught:
            PushLock(tmp_path, "i")
        assert exit_codes.exit_code_for(caught.value) == 75
    assert holder_of(tmp_path, "i") is None, "a file that outlives its process is no lock"
    lock = PushLock(tmp_path, "i")
    assert holder_of(tmp_path, "i") == os.getpid()
    lock.release()
    assert holder_of(tmp_path, "i") is None
    PushLock(tmp_path, "i").release()


def test_the_error_for_a_second_holder_names_the_first(tmp_path):
    lock = PushLock(tmp_path / "locks", "i" * 64)
    with pytest.raises(JournalLockedError, match=f"held by pid {os.getpid()}") as caught:
        PushLock(tmp_path / "locks", "i" * 64)
    assert exit_codes.exit_code_for(caught.value) == 75
    PushLock(tmp_path / "locks", "j" * 64).release()
    lock.release()
    lock.release()
    PushLock(tmp_path / "locks", "i" * 64).release()


def test_a_child_does_not_inherit_the_lock(tmp_path):
    lock = PushLock(tmp_path, "i")
    with subprocess.Popen(["sleep", "30"], close_fds=False) as child:
        lock.release()
        PushLock(tmp_path, "i").release()
        child.kill()


def test_a_lock_that_cannot_be_taken_for_another_reason_is_a_journal_error(tmp_path):
    (tmp_path / "locks").write_bytes(b"no folder")
    with pytest.raises(JournalError, match="lock") as caught:
        PushLock(tmp_path / "locks", "i")
    assert type(caught.value) is JournalError
    assert caught.value.hint


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_a_held_spool_file_can_at_most_be_shared(path, is_exclusive):
    with SpoolHold() as first, SpoolHold() as second:
        assert first.take_exclusively(path) if is_exclusive else first.take(path)
        assert second.take_exclusively(path) is False
        assert second.take(path) is not is_exclusive
        first.release()
        second.release()
        assert second.take_exclusively(path)


async def test_a_spool_file_is_held_from_its_first_byte_and_under_its_final_name(tmp_path):
    path = tmp_path / "spool" / "p.csv"
    seen = []

    class Stream(io.BytesIO):
        def read(self, size):
            with SpoolHold() as other:
                seen.append(other.take_exclusively(path.with_name("p.csv.part")))
            return super().read(size)

    with SpoolHold() as hold, SpoolHold() as other:
        spooled = await spool_bytes(Stream(b"A\n1\n"), path, hold, asyncio.to_thread)
        assert seen == [False, False]
        assert spooled.path.read_bytes() == b"A\n1\n"
        assert other.take_exclusively(path) is False
        hold.release()
        assert other.take_exclusively(path)


async def test_a_spool_file_that_cannot_be_completed_is_deleted(tmp_path):
    class Stream:
        def read(self, size):
            raise OSError(28, "No space left on device")

    with SpoolHold() as hold:
        with pytest.raises(SourceReadError, match="Stream: No space left"):
            await spool_bytes(Stream(), tmp_path / "spool" / "p.csv", hold, asyncio.to_thread)
        assert list((tmp_path / "spool").iterdir()) == []


# --- Without fcntl ----------------------------------------------------------------------------------------------------------------------

IMPORT_ALL = """
import importlib, os, pkgutil, sys
import pushengine
assert "msvcrt" in sys.modules and not hasattr(os, "pread")
for module in pkgutil.walk_packages(pushengine.__path__, "pushengine."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert "fcntl" not in sys.modules
print("all")
"""


def run_without_fcntl(*arguments, **environ):
    """Run Python with `arguments` and without `fcntl`; with a LOCKED_BYTES folder it has `msvcrt` instead."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | environ | {"PYTHONPATH": os.pathsep.join(map(str, (WITHOUT_FCNTL, ROOT, ROOT / "tests")))},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


needs_fcntl = pytest.mark.skipif(lock_module._fcntl is None, reason="this is the run without fcntl")


@needs_fcntl
def test_every_module_imports_without_fcntl(tmp_path):
    done = run_without_fcntl("-c", IMPORT_ALL, LOCKED_BYTES=str(tmp_path))
    assert (done.stdout, done.returncode) == ("all\n", 0), done.stderr


@needs_fcntl
@pytest.mark.timeout(150)
def test_locks_and_spool_work_without_fcntl(tmp_path):
    """Run the tests of this module and of the cleanup again in a process that has no `fcntl`."""
    tests = ["tests/unit/state/test_lock.py", "tests/unit/push/test_cleanup.py"]
    options = ["-q", "-p", "no:xdist", "-p", "no:cacheprovider"]
    done = run_without_fcntl("-m", "pytest", *options, *tests, LOCKED_BYTES=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout


@needs_fcntl
def test_a_system_that_cannot_lock_files_is_reported(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pushengine.errors import JournalError\n"
        "from pushengine.state.lock import *; from pushengine.sources.spool import *\n"
        "path = Path(sys.argv[1]); Path(path, 'i.lock').touch()\n"
        "for take in (lambda: PushLock(path, 'i'), lambda: holder_of(path, 'i'), lambda: SpoolHold().take(path / 'i.lock')):\n"
        "    try: take()\n"
        "    except JournalError as error: print(error)\n"
    )
    done = run_without_fcntl("-c", code, str(tmp_path))
    assert done.stdout.count("cannot lock files") == 3, done.stdout + done.stderr


# --- Tables

HOLD_TABLE = """
import sys
from pathlib import Path
from pushengine.state.lock import TableLock
lock = TableLock(Path(sys.argv[1]), "acme/pool/c/ORDERS", "ORDERS")
print("held", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def table_holder(folder):
    """Start a process that holds the lock of a table; kill it when the block ends."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD_TABLE, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"held\n"
        try:
            yield process
        finally:
            process.kill()


def test_the_second_process_that_locks_a_table_learns_which_table_and_which_process(tmp_path):
    with table_holder(tmp_path) as process:
        with pytest.raises(JournalLockedError) as caught:
            TableLock(tmp_path, "acme/pool/c/orders", "orders")
        assert caught.value.message == f"table orders is being loaded by pid {process.pid}"
        for other in ("acme/pool/c/ORDER", "acme/pool//ORDERS", "acme/other/c/ORDERS", "umbrella/pool/c/ORDERS"):
            TableLock(tmp_path, other, "ORDERS").release()
        TableLock(tmp_path / "another state folder", "acme/pool/c/ORDERS", "ORDERS").release()
    TableLock(tmp_path, "acme/pool/c/ORDERS", "ORDERS").release()  # the holder was killed


def test_a_table_is_free_when_the_last_of_this_process_has_released_it(tmp_path):
    first, second = (TableLock(tmp_path, f"acme/pool/c/{name}", name) for name in ("ORDERS", "orders"))
    first.release()
    first.release()
    (path,) = tmp_path.glob("table-*.lock")
    assert not is_free(path)
    assert path.read_text() == str(os.getpid())
    second.release()
    assert is_free(path)


def test_a_table_that_could_not_be_locked_is_not_held(tmp_path):
    with table_holder(tmp_path):
        for _ in range(2):
            with pytest.raises(JournalLockedError):
                TableLock(tmp_path, "acme/pool/c/ORDERS", "ORDERS")
    TableLock(tmp_path, "acme/pool/c/ORDERS", "ORDERS").release()
