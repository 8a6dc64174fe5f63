"""The spool: copies on disk of sources that can be read only once, kept until the platform has loaded them.

An iterator, a stream of batches or standard input is written to `spool/<push_id>.<suffix>` in the state folder and pushed from there.
A restart with a better schema, or another process after a crash, can then read it again. The file is deleted when the push is over; the
next start deletes old files that no push needs (`push/cleanup.py`). A process holds a spool file while it uses it (`SpoolHold`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import pyarrow as pa

from pushengine.errors import ConfigError, unreadable
from pushengine.interfaces import AsyncSource, BlockStream, OffLoop, SourceBlock
from pushengine.runtime.aio import finish
from pushengine.sources.pipes import find_pipe
from pushengine.sources.registry import names_paths
from pushengine.state.file_errors import setting_errors, state_errors, temporary_folder
from pushengine.state.lock import CAN_RENAME_OPEN_FILES, FileLock
from pushengine.text import flag

_PIECE_BYTES = 1024 * 1024
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "arrow": ".arrow"}


class ByteStream(Protocol):
    """A blocking stream of bytes, such as standard input, a pipe or the file object of a socket."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end. Blocks."""
        ...


class Spooled(NamedTuple):
    """A spool file and the SHA-256 of its content, in hex."""

    path: Path
    sha256: str


def is_byte_stream(source: Any) -> bool:
    """Whether `source` is a file object to read bytes from, rather than a source of rows."""
    return hasattr(source, "read") and not hasattr(source, "__arrow_c_stream__") and not hasattr(source, "__aiter__")


def stream_name(stream: Any) -> str:
    """Return the name of a byte stream for messages."""
    name = getattr(stream, "name", None)
    if name in ("<stdin>", 0):
        return "standard input"
    return os.fsdecode(name) if isinstance(name, str | bytes) and name else type(stream).__name__


async def spool_bytes(stream: ByteStream, path: Path, hold: SpoolHold, off_loop: OffLoop) -> Spooled:
    """Write all bytes of a stream to the spool.

    Raises:
        JournalError: The spool cannot be written.
    """

    async def pieces() -> AsyncIterator[bytes]:
        while piece := await off_loop(_read, stream):
            yield piece

    return await _spool(pieces(), path, hold, off_loop)


async def spool_rows(source: AsyncSource, path: Path, hold: SpoolHold, off_loop: OffLoop) -> Spooled:
    """Write the batches of a source to the spool, as an Arrow IPC stream.

    Raises:
        SourceError: The source raised it.
        JournalError: The spool cannot be written.
    """
    async with contextlib.aclosing(source), contextlib.aclosing(await source.open()) as blocks:
        return await _spool(_ipc_pieces(blocks, off_loop), path, hold, off_loop)


def _read(stream: ByteStream) -> bytes:
    try:
        return stream.read(_PIECE_BYTES)
    except OSError as exc:
        raise unreadable(stream_name(stream), exc) from exc


class _IpcSink:
    """A sink for the IPC writer; the caller takes the written bytes after each batch."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """Do nothing: there is no buffer to flush."""

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def _ipc_pieces(blocks: BlockStream[SourceBlock], off_loop: OffLoop) -> AsyncIterator[bytes]:
    sink = _IpcSink()
    writer: Any = None
    while (block := await blocks.next_block()) is not None:
        batch = (await off_loop(block.decode)).batch
        if writer is None:
            writer = pa.ipc.new_stream(sink, batch.schema)
        writer.write_batch(batch)
        yield sink.take()
    if writer is not None:
        writer.close()
    yield sink.take()


class SpoolHold:
    """A lock that keeps a spool file from being deleted while a push needs it; a context manager. Holds at most one file.

    It is an operating system lock on the file itself, so it survives the rename of `.part`, and the system releases it however the process
    ends. Pushes share the lock, because one push may be resumed while another reads the file; a deletion needs it exclusively. Windows can
    neither rename nor delete an open file, so the lock is released just before (`release_name`). A process that opens the file in between
    prevents the deletion.

    The methods do not block and must be called on the event loop. If a thread took the lock while the awaiting task was cancelled, the
    result would be lost and the lock never released.
    """

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()

    def create(self, path: Path) -> BinaryIO:
        """Create a private file and hold it. The caller must close the returned file object; the hold outlives it.

        Raises:
            OSError: The file cannot be created or locked.
        """
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        try:
            self._hold(path, is_exclusive=False)
        except BaseException:
            file.close()
            raise
        return file

    def take(self, path: Path) -> bool:
        """Hold an existing file, shared with other holders. Returns False if it is missing or being deleted.

        If a file is held already, that one is kept and the result is True.
        """
        return self._lock is not None or self._try(path, is_exclusive=False)

    def take_exclusively(self, path: Path) -> bool:
        """Hold an existing file exclusively. Returns False if that is impossible, for example because a push holds the file."""
        return self._try(path, is_exclusive=True)

    def release(self) -> None:
        """Release the file, if one is held; safe to call twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def release_name(self) -> None:
        """Allow the holder to rename or delete the file: releases it on systems where an open file cannot be renamed."""
        if not CAN_RENAME_OPEN_FILES:
            self.release()

    def _try(self, path: Path, *, is_exclusive: bool) -> bool:
        try:
            self._hold(path, is_exclusive=is_exclusive)
        except OSError:
            return False
        return True

    def _hold(self, path: Path, *, is_exclusive: bool) -> None:
        lock = FileLock(os.open(path, os.O_RDONLY | _NO_FOLLOW), is_shared=not is_exclusive)
        self.release()
        self._lock = lock


async def _spool(pieces: AsyncIterator[bytes], path: Path, hold: SpoolHold, off_loop: OffLoop) -> Spooled:
    # Write to another name, fsync, rename, fsync the folder: the file is complete and durable before the push is in the journal.
    part = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    with _writing(path):
        await off_loop(_make_folder, path.parent)
        file = hold.create(part)
    try:
        try:
            async for piece in pieces:
                with _writing(path):
                    await off_loop(_write, file, piece, digest)
            with _writing(path):
                await off_loop(_flush, file)
        finally:
            with contextlib.suppress(OSError):  # a failed write has already raised
                file.close()
        with _writing(path):
            hold.release_name()
            await finish(off_loop(_publish, part, path))
        hold.take(path)
    except BaseException:
        discard(hold, part, path)
        raise
    return Spooled(path, digest.hexdigest())


def _writing(path: Path) -> contextlib.AbstractContextManager[None]:
    return state_errors(
        "cannot write the spool",
        path,
        hint="the state folder must be writable and have room for the whole source; PUSHENGINE_STATE_DIR sets another",
    )


def discard(hold: SpoolHold, *paths: Path) -> None:
    """Delete files of a stream that will not be pushed, as far as the file system allows; `hold` may hold one of them."""
    hold.release_name()
    for path in paths:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _write(file: BinaryIO, piece: bytes, digest: Any) -> None:
    file.write(piece)
    digest.update(piece)


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _flush(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _publish(part: Path, path: Path) -> None:
    part.replace(path)
    if not CAN_RENAME_OPEN_FILES:  # Windows cannot open a folder to flush it either
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_old_spools(folder: Path, before: float) -> list[Path]:
    """Return spool files last modified before `before` (seconds UTC). Blocking. Another process may delete them meanwhile."""
    old = []
    # A folder that cannot be read is left to the next process.
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_file(follow_symlinks=False) and entry.stat(follow_symlinks=False).st_mtime < before:
                    old.append(Path(entry.path))
    return old


async def spool_source(
    source: Any,
    folder: Path,
    push_id: str,
    *,
    hold: SpoolHold,
    source_format: str | None,
    open_rows: Callable[[], Awaitable[AsyncSource]],
    off_loop: OffLoop,
) -> Spooled:
    """Write a source of any kind that can be read only once to the spool; return the file to push from, which `hold` then holds.

    Raises:
        ConfigError: A byte stream has no format, or one that cannot be read from the spool.
        SourceError: The source raised it.
        JournalError: The spool cannot be written.
    """
    if not is_byte_stream(source):
        return await spool_rows(await open_rows(), folder / f"{push_id}.arrow", hold, off_loop)
    return await spool_bytes(source, folder / f"{push_id}{stream_suffix(source_format)}", hold, off_loop)


def stream_suffix(source_format: str | None) -> str:
    """Return the suffix of a file that holds the content of a byte stream.

    Raises:
        ConfigError: The stream has no format, or one that cannot be read from such a file.
    """
    if source_format not in _SUFFIXES:
        raise ConfigError(
            "a stream has no file name that shows its format"
            if source_format is None
            else f"format {source_format} cannot be read from a stream",
            key="format",
            hint=" or ".join(flag("format", name) for name in _SUFFIXES),
        )
    return _SUFFIXES[source_format]


class StreamCopy(NamedTuple):
    """A temporary file with the content of a byte stream, and the name of the stream for messages."""

    path: Path
    name: str


@contextlib.asynccontextmanager
async def copied_stream(source: Any, source_format: str | None, read: OffLoop) -> AsyncIterator[StreamCopy | None]:
    """Copy a byte stream, or the pipe that a source names, to a temporary file that exists during the block.

    The result is None for any other source.

    Raises:
        ConfigError: The stream has no format, or a pipe is one of several sources; or the temporary file cannot be written.
    """
    pipe = await read(find_pipe, source) if names_paths(source) else None
    stream = source if pipe is None and is_byte_stream(source) else pipe
    if stream is None:
        yield None
        return
    with contextlib.ExitStack() as stack:
        if pipe is not None:
            stack.enter_context(pipe)
        suffix = stream_suffix(source_format or (pipe.format if pipe is not None else None))
        path = await read(stack.enter_context, temporary_folder("pushengine-")) / f"stream{suffix}"
        hint = "set TMPDIR to a folder with room for the whole stream"
        with setting_errors("cannot keep the stream in a temporary file:", path, key="TMPDIR", hint=hint):
            file = await read(path.open, "xb")
            with file:
                while piece := await read(_read, stream):
                    await read(file.write, piece)
        yield StreamCopy(path, stream_name(stream))
