r"""The body of a chunk upload: multipart/form-data with exactly one part, `file`, of known length.

    --<boundary>\r\n
    Content-Disposition: form-data; name="file"; filename="file"\r\n
    Content-Type: application/octet-stream\r\n
    \r\n
    <payload>\r\n
    --<boundary>--\r\n

The payload is sent in slices, from memory or from files.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import itertools
import secrets
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import TYPE_CHECKING, Literal, NoReturn

import aiohttp

from pushengine.errors import SourceReadError
from pushengine.interfaces import FileSystem
from pushengine.model import FileParts, FileRef, FileSlice
from pushengine.runtime.aio import cancel_and_wait
from pushengine.runtime.clock import Clock
from pushengine.text import format_count

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

SLICE_BYTES = 256 * 1024


class UploadBody(aiohttp.payload.Payload):
    """A multipart body that can be sent once.

    Args:
        source: Payload, in memory (referenced, not copied) or in files (read while it is sent).
        files: File system that the files are read from.
        now: Monotonic clock for `sent_at`.

    Attributes:
        sent_at: When the last byte was handed to the transport; None until then.
        bytes_sent: Number of body bytes handed to the transport.
        error: Why a file could not be read, or None.
    """

    _autoclose = True

    def __init__(
        self, source: memoryview | FileParts, *, files: FileSystem, now: Callable[[], float] = time.monotonic
    ) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(source, content_type=f"multipart/form-data; boundary={boundary}")
        self._source = source if isinstance(source, FileParts) else source.cast("B")
        self._length = self._source.nbytes
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode("ascii")
        self._tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self._files = files
        self._now = now
        self.sent_at: float | None = None
        self._transport: asyncio.WriteTransport | None = None
        self.bytes_sent = 0
        self.error: SourceReadError | None = None

    @property
    def size(self) -> int:
        """Length of the whole body in bytes."""
        return len(self._head) + self._length + len(self._tail)

    @property
    def is_started(self) -> bool:
        """Whether the first byte may have been sent."""
        return self.bytes_sent > 0

    @property
    def is_complete(self) -> bool:
        """Whether the whole body has been handed to the transport."""
        return self.bytes_sent == self.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:  # noqa: ARG002 - aiohttp's signature
        """Not supported: the payload is never held as text."""
        raise TypeError("an upload body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Hand the body to the transport. aiohttp calls this once.

        Raises:
            SourceReadError: A file is shorter than expected or cannot be read; the request must be aborted.
        """
        if self._consumed:
            raise RuntimeError("an upload body can be sent only once")
        self._consumed = True
        self._transport = writer.transport
        if self._transport is None or self._transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed before the body was sent")
        await self._write_piece(writer, self._head)
        if isinstance(self._source, FileParts):
            await self._write_parts(writer, self._source)
        else:
            await self._write_slices(writer, self._source)
        await self._write_piece(writer, self._tail)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Call `write`. `content_length` is ignored, because the body knows its length."""
        del content_length
        await self.write(writer)

    def unsent_bytes(self) -> int:
        """Return the number of bytes that wait in this process or, on Linux, in the kernel until the peer acknowledges them."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + _kernel_unsent_bytes(transport)

    def abort(self) -> None:
        """Drop the connection at once, with all data in its buffers. Closing the transport would wait until they are sent."""
        if self._transport is not None:
            self._transport.abort()

    async def _write_slices(self, writer: AbstractStreamWriter, view: memoryview) -> None:
        # Given a whole payload, asyncio copies it and, over TLS, encrypts the remainder over and over: gigabytes of memory, and
        # seconds in which the loop does nothing else. The slices are views, and the loop runs after each one.
        for start in range(0, view.nbytes, SLICE_BYTES):
            await self._write_piece(writer, view[start : start + SLICE_BYTES])

    async def _write_parts(self, writer: AbstractStreamWriter, source: FileParts) -> None:
        async with contextlib.aclosing(self._pieces(source)) as pieces:
            # Files are read on a thread, one piece ahead of the one that is being sent.
            ahead = asyncio.create_task(_next_or_none(pieces))
            try:
                while (piece := await ahead) is not None:
                    ahead = asyncio.create_task(_next_or_none(pieces))
                    await self._write_slices(writer, memoryview(piece))
            finally:
                await cancel_and_wait(ahead)

    async def _pieces(self, source: FileParts) -> AsyncGenerator[bytes, None]:
        """Yield the payload, piece by piece."""
        for file, parts in itertools.groupby(source.parts, key=_file_of):
            if file is None:
                for part in parts:
                    if isinstance(part, bytes):
                        yield part
                continue
            ranges = [(part.offset, part.nbytes) for part in parts if isinstance(part, FileSlice)]
            left = sum(nbytes for _, nbytes in ranges)
            try:
                async with contextlib.aclosing(self._files.read_ranges(file, ranges)) as pieces:
                    async for piece in pieces:
                        left -= len(piece)
                        yield piece
            except OSError as exc:
                self._fail(file, f"the file cannot be read: {exc.strerror or exc}", exc)
            if left:
                self._fail(
                    file, f"the file ended {format_count(left, 'byte')} early: it changed while it was being sent"
                )

    def _fail(self, file: FileRef, what: str, cause: BaseException | None = None) -> NoReturn:
        self.error = SourceReadError(what, source=file.shown)
        raise self.error from cause

    async def _write_piece(self, writer: AbstractStreamWriter, piece: bytes | memoryview) -> None:
        self.bytes_sent += len(piece)  # before the write: some bytes may be sent even if the call fails
        await writer.write(piece)
        if self.is_complete:
            self.sent_at = self._now()
        # aiohttp yields to the loop only if the peer is slow. Yielding here lets the loop read too: an early refusal is seen before the
        # next write fails on the closed connection, which would hide the refusal (aiohttp#6138).
        await asyncio.sleep(0)


class Upload:
    """One upload of one chunk, with a stall watch, because aiohttp has no time limit for writing.

    The watch follows the body bytes handed over, the bytes still in the buffers of the transport and (Linux) of the kernel, and the bytes
    of the response. An upload that is slow but progresses has no limit.

    Args:
        source: Payload, in memory or in files.
        files: File system that the files are read from.
        stall_timeout_seconds: Longest time without progress while the body is sent.
        read_timeout_seconds: Longest silence of the peer once it has the whole body.
        clock: Clock for the body's `sent_at`.

    Attributes:
        body: Body of the request.
        received_bytes: Bytes of the response so far; the code that reads the response counts them.
        is_finished: Whether the response has been read and the connection can be reused.
        timed_out: Phase whose time limit ran out, or None.
    """

    def __init__(
        self,
        source: memoryview | FileParts,
        *,
        files: FileSystem,
        stall_timeout_seconds: float,
        read_timeout_seconds: float,
        clock: Clock,
    ) -> None:
        # The body must not hold a bound method of this object: the reference cycle would keep the payload in memory until the
        # garbage collector runs.
        self.body = UploadBody(source, files=files, now=clock.monotonic)
        self.received_bytes = 0
        self.is_finished = False
        self.timed_out: Literal["write", "read"] | None = None
        self._limits = {"write": stall_timeout_seconds, "read": read_timeout_seconds}
        self._interval = min(1.0, stall_timeout_seconds / 10, read_timeout_seconds / 10)
        self._position = (0, 0, 0)
        self._silent_seconds = 0.0
        self._ticked_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    @property
    def limit_seconds(self) -> float:
        """The time limit that ran out, in seconds."""
        return self._limits[self.timed_out or "write"]

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Run the block, and end it with TimeoutError once the upload stalls."""
        async with asyncio.timeout(None) as deadline:
            self._ticked_at = asyncio.get_running_loop().time()
            self._tick(deadline)
            try:
                yield
            finally:
                if self._handle is not None:
                    self._handle.cancel()

    def _tick(self, deadline: asyncio.Timeout) -> None:
        """Compare the progress of the upload with the previous tick. Until the first byte is sent, only the connect timeout applies."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        unsent = self.body.unsent_bytes()
        position = (self.body.bytes_sent, unsent, self.received_bytes)
        if position != self._position or not self.body.is_started:
            self._position = position
            self._silent_seconds = 0.0
        else:  # at most two intervals count: the time a machine was asleep must not count as silence of the peer
            self._silent_seconds += min(now - self._ticked_at, 2 * self._interval)
        self._ticked_at = now
        phase: Literal["write", "read"] = "read" if self.body.is_complete and not unsent else "write"
        if self._silent_seconds >= self._limits[phase]:
            self.timed_out = phase
            deadline.reschedule(now)
        else:
            self._handle = loop.call_later(self._interval, self._tick, deadline)


def _file_of(part: bytes | FileSlice) -> FileRef | None:
    return None if isinstance(part, bytes) else part.file


async def _next_or_none(pieces: AsyncGenerator[bytes, None]) -> bytes | None:
    return await anext(pieces, None)


def _kernel_unsent_bytes(transport: asyncio.BaseTransport) -> int:
    """Return the bytes in the socket's send queue that the peer has not acknowledged; 0 if the system does not report them."""
    if sys.platform != "linux":
        return 0
    sock = transport.get_extra_info("socket")
    queued = array.array("i", [0])
    try:
        import fcntl  # noqa: PLC0415 - not available on every platform
        import termios  # noqa: PLC0415

        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    except (ImportError, OSError, ValueError, AttributeError):
        return 0
    return queued[0]
