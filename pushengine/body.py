r"""The body of a chunk upload: multipart/form-data with exactly one part, `file`, of known length.

    --<boundary>\r\n
    Content-Disposition: form-data; name="file"; filename="file"\r\n
    Content-Type: application/octet-stream\r\n
    \r\n
    <payload>\r\n
    --<boundary>--\r\n

The payload goes to the transport in slices. A whole buffer handed to asyncio at once is copied, and over TLS encrypted again and again
from the start of what is left: gigabytes of memory and seconds in which the loop does nothing else. The slices are views, and after
each of them the loop gets its turn.
"""

from __future__ import annotations

import array
import asyncio
import contextlib
import dataclasses
import secrets
import sys
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Literal, NoReturn

import aiofiles
import aiohttp

from pushengine.clock import Clock
from pushengine.errors import SourceReadError

if TYPE_CHECKING:
    from pathlib import Path

    from aiohttp.abc import AbstractStreamWriter

if sys.platform == "linux":
    import fcntl
    import termios

SLICE_BYTES = 256 * 1024
FILE_PIECE_BYTES = 1024 * 1024


@dataclasses.dataclass(frozen=True, slots=True)
class FileSlice:
    """Part of a file on disk."""

    path: Path
    offset: int
    length: int


class UploadBody(aiohttp.payload.Payload):
    """One multipart body, sent once.

    Args:
        source: The payload, in memory (kept, not copied) or in a file (read as it is sent).
        on_progress: Told the body bytes handed over so far, after each slice.

    Attributes:
        bytes_sent: Body bytes handed to the transport.
        error: Why the source could not be read, if so.
    """

    _autoclose = True

    def __init__(self, source: memoryview | FileSlice, *, on_progress: Callable[[int], None] | None = None) -> None:
        boundary = secrets.token_hex(16)
        super().__init__(source, content_type=f"multipart/form-data; boundary={boundary}")
        self._source = source if isinstance(source, FileSlice) else source.cast("B")
        self._length = self._source.length if isinstance(self._source, FileSlice) else self._source.nbytes
        self._head = (
            f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="file"\r\n'
            "Content-Type: application/octet-stream\r\n\r\n"
        ).encode("ascii")
        self._tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        self._on_progress = on_progress
        self._transport: asyncio.WriteTransport | None = None
        self.bytes_sent = 0
        self.error: SourceReadError | None = None

    @property
    def size(self) -> int:
        """Length of the whole body in bytes."""
        return len(self._head) + self._length + len(self._tail)

    @property
    def is_begun(self) -> bool:
        """A first byte may have left."""
        return self.bytes_sent > 0

    @property
    def is_complete(self) -> bool:
        """All of it has been handed to the transport."""
        return self.bytes_sent == self.size

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> NoReturn:  # noqa: ARG002 - aiohttp's signature
        """Not supported: the payload is never held as text."""
        raise TypeError("an upload body has no text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Hand the body to the transport; called by aiohttp, once.

        Raises:
            SourceReadError: The file is shorter than promised or cannot be read; the request must be aborted.
        """
        if self._consumed:
            raise RuntimeError("an upload body is sent once")
        self._consumed = True
        self._transport = writer.transport
        if self._transport is None or self._transport.is_closing():
            raise aiohttp.ClientConnectionResetError("the connection was closed before the body began")
        await self._hand_over(writer, self._head)
        if isinstance(self._source, FileSlice):
            await self._write_file(writer, self._source)
        else:
            await self._write_slices(writer, self._source)
        await self._hand_over(writer, self._tail)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """As `write`; the length is always our own."""
        del content_length
        await self.write(writer)

    def unsent_bytes(self) -> int:
        """Bytes handed over that wait in this process or, on Linux, in the kernel for the peer to take them."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return 0
        return transport.get_write_buffer_size() + _kernel_unsent_bytes(transport)

    def abort(self) -> None:
        """Drop the connection at once, with what is still in its buffers. A closed transport would first wait to send them."""
        if self._transport is not None:
            self._transport.abort()

    async def _write_slices(self, writer: AbstractStreamWriter, view: memoryview) -> None:
        for start in range(0, view.nbytes, SLICE_BYTES):
            await self._hand_over(writer, view[start : start + SLICE_BYTES])

    async def _write_file(self, writer: AbstractStreamWriter, source: FileSlice) -> None:
        left = source.length
        try:
            async with aiofiles.open(source.path, "rb") as file:
                await file.seek(source.offset)
                while left:
                    piece = await file.read(min(FILE_PIECE_BYTES, left))
                    if not piece:
                        break
                    left -= len(piece)
                    await self._write_slices(writer, memoryview(piece))
        except aiohttp.ClientError:
            raise  # the connection's, also where it is an OSError
        except OSError as exc:
            if self._transport is None or self._transport.is_closing():
                raise
            self._fail(source, f"the file cannot be read: {exc.strerror or exc}", exc)
        if left:
            self._fail(source, f"the file ended {left} bytes early: it changed while it was sent")

    def _fail(self, source: FileSlice, what: str, cause: BaseException | None = None) -> NoReturn:
        self.error = SourceReadError(what, source=str(source.path))
        raise self.error from cause

    async def _hand_over(self, writer: AbstractStreamWriter, piece: bytes | memoryview) -> None:
        self.bytes_sent += len(piece)  # before the write: some of it may leave although the call fails
        await writer.write(piece)
        if self._on_progress is not None:
            self._on_progress(self.bytes_sent)
        # aiohttp waits for slow peers only. The turn of the loop also reads: a refusal that came early is seen before the next write
        # runs into the closed connection, which would hide it (aiohttp#6138).
        await asyncio.sleep(0)


class Upload:
    """One sending of one chunk, and the watch over it: aiohttp has no time limit for writing.

    Args:
        source: The payload.
        stall_timeout_seconds: Nothing moves while the body is under way: over.
        read_timeout_seconds: The peer has all of it and says nothing: over.
        clock: Gives `sent_at`.

    Attributes:
        body: The request's body.
        received_bytes: Of the answer; counted by whoever reads it.
        is_settled: The answer is read and the connection good for another request.
        sent_at: When the last byte was handed over, on the clock.
        timed_out: The phase that took too long.
    """

    def __init__(
        self, source: memoryview | FileSlice, *, stall_timeout_seconds: float, read_timeout_seconds: float, clock: Clock
    ) -> None:
        self.body = UploadBody(source, on_progress=self._note_progress)
        self.received_bytes = 0
        self.is_settled = False
        self.sent_at: float | None = None
        self.timed_out: Literal["write", "read"] | None = None
        self._clock = clock
        self._limits = {"write": stall_timeout_seconds, "read": read_timeout_seconds}
        self._interval = min(1.0, stall_timeout_seconds / 10, read_timeout_seconds / 10)
        self._position = (0, 0, 0)
        self._silent_seconds = 0.0
        self._ticked_at = 0.0
        self._handle: asyncio.TimerHandle | None = None

    @property
    def limit_seconds(self) -> float:
        """The time limit that ran out."""
        return self._limits[self.timed_out or "write"]

    @contextlib.asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Run the block, and end it with TimeoutError once the upload stands still."""
        async with asyncio.timeout(None) as deadline:
            self._ticked_at = asyncio.get_running_loop().time()
            self._tick(deadline)
            try:
                yield
            finally:
                if self._handle is not None:
                    self._handle.cancel()

    def _tick(self, deadline: asyncio.Timeout) -> None:
        """Compare what can be seen of the upload with a moment ago. Before its first byte, the connect timeout counts."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        unsent = self.body.unsent_bytes()
        position = (self.body.bytes_sent, unsent, self.received_bytes)
        if position != self._position or not self.body.is_begun:
            self._position = position
            self._silent_seconds = 0.0
        else:  # no more than the interval counts: a machine that slept must not take its own silence for the peer's
            self._silent_seconds += min(now - self._ticked_at, 2 * self._interval)
        self._ticked_at = now
        phase: Literal["write", "read"] = "read" if self.body.is_complete and not unsent else "write"
        if self._silent_seconds >= self._limits[phase]:
            self.timed_out = phase
            deadline.reschedule(now)
        else:
            self._handle = loop.call_later(self._interval, self._tick, deadline)

    def _note_progress(self, bytes_sent: int) -> None:
        if bytes_sent == self.body.size:
            self.sent_at = self._clock.now()


def _kernel_unsent_bytes(transport: asyncio.BaseTransport) -> int:
    """Bytes in the socket's send queue that the peer has not acknowledged; 0 where the system does not tell."""
    if sys.platform != "linux":
        return 0
    sock = transport.get_extra_info("socket")
    queued = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, queued)
    except (OSError, ValueError, AttributeError):
        return 0
    return queued[0]
