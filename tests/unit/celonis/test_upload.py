from __future__ import annotations

import asyncio
import email
import email.policy
import os

import aiohttp
import pytest
from support.files import file_ref

from pushengine.celonis import upload as body_module
from pushengine.celonis.upload import Upload, UploadBody
from pushengine.errors import SourceReadError
from pushengine.model import FileParts, FileSlice
from pushengine.runtime import files
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.files import LocalFileSystem


class Transport:
    closing = False
    aborted = False

    def is_closing(self):
        return self.closing

    def get_write_buffer_size(self):
        return 7

    def get_extra_info(self, _name):
        return None

    def abort(self):
        self.aborted = True


class Writer:
    """Records what a body writes."""

    def __init__(self, *, fail_after=None):
        self.transport = Transport()
        self.pieces = []
        self.fail_after = fail_after

    async def write(self, piece):
        self.pieces.append(piece)
        if self.fail_after is not None and len(self.pieces) > self.fail_after:
            self.transport.closing = True
            raise aiohttp.ClientConnectionResetError("closed")

    @property
    def sent(self):
        return b"".join(self.pieces)


def part_of(body, raw):
    text = b"Content-Type: " + body.content_type.encode() + b"\r\n\r\n" + raw
    message = email.message_from_bytes(text, policy=email.policy.HTTP)
    (part,) = message.iter_parts()
    return part


def body_of(source, **options):
    return UploadBody(source, files=LocalFileSystem(), **options)


def file_slice(path, offset, nbytes):
    return FileParts((FileSlice(file_ref(path), offset, nbytes),))


@pytest.mark.parametrize("length", [0, 1, 1000, body_module.SLICE_BYTES, 3 * body_module.SLICE_BYTES + 5])
@pytest.mark.parametrize("kind", ["memory", "file"])
async def test_a_body_is_one_part_named_file_of_exact_length(tmp_path, kind, length):
    data = os.urandom(length)
    path = tmp_path / "chunk"
    path.write_bytes(b"before" + data + b"after")
    body = body_of(memoryview(data) if kind == "memory" else file_slice(path, 6, length))
    writer = Writer()
    await body.write_with_length(writer, body.size)
    assert len(writer.sent) == body.size == body.bytes_sent
    assert body.is_complete
    part = part_of(body, writer.sent)
    assert part.get_param("name", header="content-disposition") == "file"
    assert part.get_filename() == "file"
    assert part.get_content_type() == "application/octet-stream"
    assert data in writer.sent


async def test_memory_is_sent_as_views_without_copying():
    data = bytearray(3 * body_module.SLICE_BYTES)
    writer = Writer()
    await body_of(memoryview(data)).write(writer)
    views = [piece for piece in writer.pieces if isinstance(piece, memoryview)]
    assert len(views) == 3
    assert all(view.obj is data for view in views)


async def test_a_view_of_multibyte_items_is_sent_as_bytes():
    data = memoryview(bytes(range(8))).cast("I")
    body = body_of(data)
    writer = Writer()
    await body.write(writer)
    assert bytes(range(8)) in writer.sent
    assert len(writer.sent) == body.size


async def test_other_tasks_run_after_each_slice():
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await body_of(memoryview(bytes(20 * body_module.SLICE_BYTES))).write(Writer())
    task.cancel()
    assert turns >= 20


async def test_the_time_of_the_last_byte_is_recorded():
    body = body_of(memoryview(bytes(2 * body_module.SLICE_BYTES)), now=lambda: 7.0)
    assert body.sent_at is None
    await body.write(Writer())
    assert (body.bytes_sent, body.sent_at) == (body.size, 7.0)


async def test_a_body_can_be_sent_only_once():
    body = body_of(memoryview(b"x"))
    await body.write(Writer())
    assert body.consumed
    with pytest.raises(RuntimeError):
        await body.write(Writer())
    with pytest.raises(TypeError):
        body.decode()


async def test_a_closed_connection_is_detected_before_the_first_byte():
    body, writer = body_of(memoryview(b"x")), Writer()
    writer.transport.closing = True
    with pytest.raises(aiohttp.ClientConnectionResetError):
        await body.write(writer)
    assert not body.is_started


async def test_parts_of_files_and_of_memory_are_sent_in_order(tmp_path):
    data = os.urandom(2 * files._PIECE_BYTES + 7)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(data)
    other.write_bytes(b"0123456789")
    last = FileSlice(file_ref(one), files._PIECE_BYTES, files._PIECE_BYTES + 7)
    parts = (
        b"begin",
        FileSlice(file_ref(one), 3, 5),
        FileSlice(file_ref(other), 8, 2),
        FileSlice(file_ref(other), 1, 2),
        b"",
        last,
        b"end",
    )
    source = FileParts(parts)
    body, writer = body_of(source), Writer()
    await body.write(writer)
    assert body.is_complete
    assert len(writer.sent) == body.size
    expected = b"begin" + data[3:8] + b"8912" + data[files._PIECE_BYTES :] + b"end"
    assert source.nbytes == len(expected)
    assert expected in writer.sent


async def test_a_file_is_read_ahead_while_its_bytes_are_sent(tmp_path, monkeypatch):
    path = tmp_path / "chunk"
    path.write_bytes(bytes(4 * files._PIECE_BYTES))
    reads = []
    original = body_module._next_or_none

    async def counted(pieces):
        reads.append(len(writer.pieces))
        return await original(pieces)

    monkeypatch.setattr(body_module, "_next_or_none", counted)
    writer = Writer()
    await body_of(file_slice(path, 0, 4 * files._PIECE_BYTES)).write(writer)
    per_piece = files._PIECE_BYTES // body_module.SLICE_BYTES
    assert reads[2] <= 1 + per_piece + 1
    assert len(reads) == 5


async def test_a_cancelled_body_closes_its_file(tmp_path, monkeypatch):
    path = tmp_path / "chunk"
    path.write_bytes(bytes(4 * files._PIECE_BYTES))
    opened = []
    original = files.aiofiles.open

    async def recorded(*args):
        opened.append(await original(*args))
        return opened[-1]

    monkeypatch.setattr(files.aiofiles, "open", recorded)

    class Stuck(Writer):
        async def write(self, piece):
            await super().write(piece)
            if len(self.pieces) > 2:
                await asyncio.Event().wait()

    writer = Stuck()
    task = asyncio.create_task(body_of(file_slice(path, 0, 4 * files._PIECE_BYTES)).write(writer))
    while len(writer.pieces) < 3:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [file.closed for file in opened] == [True]


async def test_a_body_cancelled_while_its_file_is_being_opened_closes_it(tmp_path, monkeypatch):
    path = tmp_path / "chunk"
    path.write_bytes(bytes(1000))
    opened, may_open, started = [], asyncio.Event(), asyncio.Event()
    original = files.aiofiles.open

    async def slow(*args):
        started.set()
        await may_open.wait()
        opened.append(await original(*args))
        return opened[-1]

    monkeypatch.setattr(files.aiofiles, "open", slow)
    task = asyncio.create_task(body_of(file_slice(path, 0, 1000)).write(Writer()))
    await started.wait()
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    may_open.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert [file.closed for file in opened] == [True]


async def test_a_file_that_ends_early_is_a_source_error(tmp_path):
    path = tmp_path / "chunk"
    path.write_bytes(b"x" * 100)
    body = body_of(file_slice(path, 50, 51))
    with pytest.raises(SourceReadError) as caught:
        await body.write(Writer())
    assert body.error is caught.value
    assert "1 byte early" in str(caught.value)
    assert str(path) in str(caught.value)
    assert not body.is_complete


async def test_a_file_that_cannot_be_read_is_a_source_error(tmp_path):
    with pytest.raises(SourceReadError):
        await body_of(file_slice(tmp_path / "gone", 0, 1)).write(Writer())


async def test_a_lost_connection_is_not_a_source_error(tmp_path):
    path = tmp_path / "chunk"
    path.write_bytes(b"x" * 100)
    body = body_of(file_slice(path, 0, 100))
    with pytest.raises(aiohttp.ClientConnectionResetError):
        await body.write(Writer(fail_after=1))
    assert body.error is None


async def test_buffered_bytes_are_counted_and_can_be_dropped():
    body, writer = body_of(memoryview(b"x")), Writer()
    assert body.unsent_bytes() == 0
    body.abort()
    await body.write(writer)
    assert body.unsent_bytes() == 7
    body.abort()
    assert writer.transport.aborted
    writer.transport.closing = True
    assert body.unsent_bytes() == 0


class ManualLoop:
    """An event loop with manual time; it runs what the watch schedules."""

    def __init__(self, monkeypatch, upload):
        self.now = 0.0
        self.later = None
        self.expired_at = None
        self.upload = upload
        monkeypatch.setattr(body_module.asyncio, "get_running_loop", lambda: self)

    def time(self):
        return self.now

    def call_later(self, delay, callback, *args):
        self.later = (self.now + delay, callback, args)

    def reschedule(self, when):
        self.expired_at = when
        self.later = None

    def start(self):
        self.upload._ticked_at = self.now
        self.upload._tick(self)

    def run_until(self, when, each=lambda: None):
        while self.later and self.later[0] <= when:
            self.now, callback, args = self.later
            each()
            callback(*args)
        self.now = max(self.now, when)


@pytest.fixture
def watched(monkeypatch):
    upload = Upload(
        memoryview(bytes(1000)),
        files=LocalFileSystem(),
        stall_timeout_seconds=50,
        read_timeout_seconds=120,
        clock=SystemClock(),
    )
    loop = ManualLoop(monkeypatch, upload)
    unsent = 0
    upload.body.unsent_bytes = lambda: unsent

    def set_unsent(value):
        nonlocal unsent
        unsent = value

    loop.set_unsent = set_unsent
    return loop


def test_a_stalled_peer_is_detected_within_sixty_seconds(watched):
    watched.upload.body.bytes_sent = 500
    watched.set_unsent(400)
    watched.start()
    watched.run_until(1000)
    assert watched.expired_at <= 60
    assert (watched.upload.timed_out, watched.upload.limit_seconds) == ("write", 50)


def test_bytes_that_leave_the_kernel_count_as_progress(watched):
    watched.upload.body.bytes_sent = watched.upload.body.size
    watched.start()
    left = [100_000]

    def drain():
        left[0] -= 1
        watched.set_unsent(left[0])

    watched.run_until(10_000, drain)
    assert watched.expired_at is None


def test_a_silent_peer_that_has_the_whole_body_gets_the_read_timeout(watched):
    watched.upload.body.bytes_sent = watched.upload.body.size
    watched.start()
    watched.run_until(1000)
    assert 120 <= watched.expired_at <= 125
    assert watched.upload.timed_out == "read"


def test_the_watch_does_not_expire_before_the_connection_exists(watched):
    watched.start()
    watched.run_until(1000)
    assert watched.expired_at is None


def test_time_in_which_the_machine_slept_is_not_a_stall(watched):
    watched.upload.body.bytes_sent = 500
    watched.start()
    watched.run_until(10)
    watched.now += 3600
    _, callback, args = watched.later
    callback(*args)
    assert watched.expired_at is None
