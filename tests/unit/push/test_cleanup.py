"""Cleanup at startup: it never removes what an open push needs or another process holds."""

import contextlib
import os
import subprocess
import sys

import pytest
from support.inline import inline

from pushengine.errors import ConnectionFailedError, InvalidRequestError, RequestTimeoutError
from pushengine.journal.facts import FactRow, PushRow
from pushengine.journal.store import Journal, JournalFile
from pushengine.push.cleanup import abandon_stale_pushes, delete_forgotten_jobs, delete_old_spools, delete_spool
from pushengine.runtime.clock import SystemClock
from pushengine.sources.spool import SpoolHold
from pushengine.state.lock import PushLock
from pushengine.testing import RecordingSink

HOUR = 3600.0
NOW = 1_800_000_000.0
STALE = 72 * HOUR
OLD, RECENT = NOW - STALE - HOUR, NOW - STALE + HOUR

HOLD_PUSH = (
    "import sys; from pathlib import Path; from pushengine.state.lock import PushLock\n"
    "lock = PushLock(Path(sys.argv[1]), sys.argv[2]); print('held', flush=True); sys.stdin.read()\n"
)
HOLD_SPOOL = (
    "import sys; from pathlib import Path; from pushengine.sources.spool import SpoolHold\n"
    "path, hold = Path(sys.argv[1]), SpoolHold(); file = hold.create(path); file.write(b'x'); file.close()\n"
    "hold.release_name(); path.rename(path.with_suffix('')); hold.take(path.with_suffix(''))\n"
    "print('held', flush=True); sys.stdin.read()\n"
)


@contextlib.contextmanager
def process(code, *arguments):
    """Start a process that holds a lock until the block ends; then kill it."""
    started = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert started.stdout.readline() == "held\n"
        yield started
    finally:
        started.kill()
        started.communicate()


class StoppedClock(SystemClock):
    def now(self):
        return NOW


@pytest.fixture
async def journal(tmp_path):
    opened = Journal(tmp_path / "journal.sqlite3")
    await opened.open()
    yield opened
    await opened.aclose()


@pytest.fixture
def add(journal):
    """Return a function that adds a push to the journal, with the files that it reads and the jobs that it created."""

    async def _add(push_id="p1", state="open", at=OLD, files=(), jobs=()):
        row = PushRow(push_id, f"identity-{push_id}", "acme", "pool", "T", "a.csv", at, at, state)
        planned = {"source": [str(file) for file in files], "fingerprint": [[str(file), 1, 2, "x"] for file in files]}

        def write(file):
            file.begin_push(row)
            file.append(FactRow(push_id, at, "push_planned", planned))
            for job_id in jobs:
                file.append(FactRow(push_id, at, "job_created", {"job_id": job_id}))

        await journal.do(write)
        return row

    return _add


async def state_of(journal, push_id="p1"):
    return (await journal.read(lambda file: file.push(push_id))).state


# --- Pushes -----------------------------------------------------------------------------------------------------------------------------


def abandon(journal, tmp_path, take_lock=None):
    locks = tmp_path / "locks"
    return abandon_stale_pushes(
        journal=journal,
        take_lock=take_lock or (lambda identity: PushLock(locks, identity)),
        clock=StoppedClock(),
        stale_seconds=STALE,
    )


async def test_a_stale_push_without_a_job_ends_as_of_now(journal, add, tmp_path):
    """Its end is dated now: a clock that is wrong for a while must not make its spool file look old as well."""
    await add()
    await add("p2", jobs=["j1"])
    await add("p3", at=RECENT)
    await add("p4", state="unknown")
    assert await abandon(journal, tmp_path) == 1
    ended = await journal.read(lambda file: file.push("p1"))
    assert ended.state == "superseded"
    assert ended.updated_at >= NOW
    facts = await journal.read(lambda file: file.facts("p1"))
    assert (facts[-1].kind, facts[-1].body["reason"]) == ("push_superseded", "nobody resumed it in time")
    assert [await state_of(journal, push_id) for push_id in ("p2", "p3", "p4")] == ["open", "open", "unknown"]
    PushLock(tmp_path / "locks", ended.identity).release()


async def test_a_stale_push_that_a_running_process_holds_is_not_abandoned(journal, add, tmp_path):
    """It may read a large source or wait for longer than `stale_hours`, or this host's clock may be wrong."""
    row = await add()
    await add("p2")
    with process(HOLD_PUSH, tmp_path / "locks", row.identity):
        assert await abandon(journal, tmp_path) == 1
        assert [await state_of(journal, push_id) for push_id in ("p1", "p2")] == ["open", "superseded"]
    assert await abandon(journal, tmp_path) == 1
    assert await state_of(journal) == "superseded"


@pytest.mark.parametrize("kind", ["job_created", "session_started"])
async def test_a_push_that_continued_just_before_its_lock_was_taken_is_not_abandoned(journal, add, tmp_path, kind):
    await add()

    def take_lock(identity):
        with contextlib.closing(JournalFile(journal.path)) as other, other.transaction():
            other.append(FactRow("p1", NOW, kind, {"job_id": "j"}))
        return PushLock(tmp_path / "locks", identity)

    assert await abandon(journal, tmp_path, take_lock) == 0
    assert await state_of(journal) == "open"


# --- Jobs -------------------------------------------------------------------------------------------------------------------------------


class Destination:
    """Raises the given errors, one per deletion. A deletion succeeds if its error is None or no error is left."""

    team = "acme"

    def __init__(self, *errors):
        self.errors = list(errors)
        self.requested = []

    async def delete_job(self, job_id):
        self.requested.append(job_id)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error


def delete_forgotten(journal, tmp_path, destination):
    return delete_forgotten_jobs(
        destination,
        pool_id="pool",
        journal=journal,
        take_lock=lambda identity: PushLock(tmp_path / "locks", identity),
        clock=StoppedClock(),
        stale_seconds=STALE,
        sink=RecordingSink(),
    )


@pytest.mark.parametrize("error", [ConnectionFailedError("no route"), RequestTimeoutError("slow", phase="connect")])
async def test_the_first_sign_of_an_unreachable_platform_ends_the_deletions(journal, add, tmp_path, error):
    """Otherwise each forgotten job would wait for its own connect timeout, before the first row of the new push."""
    rows = [await add(f"p{number}", state="failed", jobs=[f"j{number}"]) for number in range(5)]
    unreachable = Destination(None, error)
    assert await delete_forgotten(journal, tmp_path, unreachable) == 1
    assert unreachable.requested == ["j0", "j1"]
    for row in rows:
        PushLock(tmp_path / "locks", row.identity).release()
    assert await delete_forgotten(journal, tmp_path, Destination()) == 4


async def test_a_job_that_cannot_be_deleted_does_not_prevent_deleting_the_others(journal, add, tmp_path):
    for number in range(3):
        await add(f"p{number}", state="failed", jobs=[f"j{number}"])
    assert await delete_forgotten(journal, tmp_path, Destination(InvalidRequestError("no", status=400))) == 2


# --- Spool files ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def spool(tmp_path):
    folder = tmp_path / "spool"
    folder.mkdir()
    return folder


def make(path, at=OLD):
    path.write_bytes(b"x")
    os.utime(path, (at, at))
    return path


def clean_up(journal, folder):
    return delete_old_spools(folder, journal=journal, before=NOW - STALE, off_loop=inline)


async def test_old_orphans_are_deleted_and_nothing_else_in_the_folder(journal, spool):
    orphans = [make(spool / "p1.csv"), make(spool / "p2.arrow.part")]
    young = make(spool / "p3.csv", at=RECENT)
    (spool / "folder").mkdir()
    os.utime(spool / "folder", (OLD, OLD))
    os.mkfifo(spool / "pipe")
    os.utime(spool / "pipe", (OLD, OLD))
    target = make(spool.parent / "elsewhere.csv")
    (spool / "link").symlink_to(target)
    os.utime(spool / "link", (OLD, OLD), follow_symlinks=False)
    assert await clean_up(journal, spool) == 2
    assert not any(orphan.exists() for orphan in orphans)
    assert {path.name for path in spool.iterdir()} == {young.name, "folder", "pipe", "link"}
    assert target.exists()


async def test_a_missing_folder_needs_no_cleanup(journal, tmp_path):
    assert await clean_up(journal, tmp_path / "none") == 0
    make(tmp_path / "in-the-way")
    assert await clean_up(journal, tmp_path / "in-the-way") == 0


@pytest.mark.parametrize(
    ("state", "at", "is_kept"),
    [
        ("open", OLD, True),
        ("unknown", OLD, True),
        ("finished", OLD, False),
        ("done", OLD, False),
        ("failed", OLD, False),
        ("superseded", OLD, False),
        ("finished", RECENT, True),
        ("done", RECENT, True),
        ("failed", RECENT, True),
        ("superseded", RECENT, True),
    ],
)
async def test_an_old_file_of_a_push_is_deleted_once_the_push_ended_long_enough_ago(
    journal, add, spool, state, at, is_kept
):
    """Matched by the recorded path, not by the push id in the name: a push that replaced another one reads that one's file."""
    path = make(spool / "p0.csv")
    await add("p1", state=state, at=at, files=[spool.parent / "other.csv", path])
    assert await clean_up(journal, spool) == (not is_kept)
    assert path.exists() == is_kept


@pytest.mark.parametrize("spelling", ["{parent}/x/../spool/p0.csv", "/var/other/spool/p0.csv"])
async def test_the_state_folder_may_have_been_spelled_differently(journal, add, spool, spelling):
    path = make(spool / "p0.csv")
    await add(files=[spelling.format(parent=spool.parent)])
    assert await clean_up(journal, spool) == 0
    assert path.exists()


@pytest.mark.parametrize("named", ["xp0.csv", "p0.csv.part", "p0", "0.csv"])
async def test_a_similar_name_is_a_different_file(journal, add, spool, named):
    make(spool / "p0.csv")
    await add(files=[spool / named])
    assert await clean_up(journal, spool) == 1


async def test_a_file_that_another_process_holds_is_kept_until_that_process_ends(journal, spool):
    """The lock was taken on `.part` and stays with the renamed file; the kernel releases it after a `kill -9`."""
    path = spool / "p1.csv"
    with process(HOLD_SPOOL, spool / "p1.csv.part"):
        os.utime(path, (OLD, OLD))
        assert await clean_up(journal, spool) == 0
        assert path.read_bytes() == b"x"
    assert await clean_up(journal, spool) == 1
    assert not path.exists()


async def test_the_journal_is_read_while_the_file_is_locked(journal, spool):
    """A push is in the journal before it releases its file. In the opposite order, it could start and die between the two checks."""
    path = make(spool / "p1.csv")
    seen = []

    class CheckedJournal:
        async def read(self, call):
            with SpoolHold() as other:
                assert other.take(path) is False
            seen.append(path.exists())
            return await journal.read(call)

    assert await clean_up(CheckedJournal(), spool) == 1
    assert seen == [True]


async def test_a_folder_that_cannot_be_written_is_no_error(journal, spool):
    path = make(spool / "p1.csv")

    async def refused(function, *args):
        if function.__name__ == "unlink":
            raise PermissionError(13, "no")
        return function(*args)

    assert await delete_old_spools(spool, journal=journal, before=NOW, off_loop=refused) == 0
    with SpoolHold() as hold:
        assert hold.take_exclusively(path)


async def test_a_missing_file_is_no_error(journal, spool):
    assert not await delete_spool(spool / "none.csv", journal=journal, off_loop=inline)


def test_pushes_share_a_file_and_a_deletion_needs_it_exclusively(spool):
    path = spool / "p1.csv"
    with SpoolHold() as maker, SpoolHold() as resumer, SpoolHold() as deleter:
        maker.create(path).close()
        assert resumer.take(path)
        assert resumer.take(path)
        assert not deleter.take_exclusively(path)
        maker.release()
        maker.release()
        assert not deleter.take_exclusively(path)
        resumer.release()
        assert deleter.take_exclusively(path)
        assert not resumer.take(path)
    with SpoolHold() as again:
        assert again.take_exclusively(path)


def test_a_hold_leaves_no_descriptor_open(spool):
    before = set(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else set()
    path = make(spool / "p1.csv")
    for _ in range(3):
        with SpoolHold() as hold, SpoolHold() as other:
            hold.take_exclusively(path)
            other.take(path)
            with pytest.raises(FileExistsError):
                other.create(path)
    assert not before or set(os.listdir("/proc/self/fd")) == before
