"""Sources that can be read only once, kept on disk until the platform has loaded them.

An iterator, a stream of batches or standard input is written to `spool/<push_id>.<suffix>` in the state folder and pushed from there: it can
then be read again, by a restart with a better schema or by another process after a crash. The file is complete and on the disk
(written under another name, fsync, rename, fsync of the folder) before the push is in the journal. It is deleted when the push is
over; at the next start also by age, unless a push needs it (`push/cleanup.py`). Who works on it holds it meanwhile (`SpoolHold`).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Protocol, Self

import pyarrow as pa

from pushengine.errors import ConfigError, JournalError
from pushengine.interfaces import AsyncSource, BlockStream, OffLoop, SourceBlock
from pushengine.runtime.aio import finish
from pushengine.state.lock import MOVES_WHILE_OPEN, FileLock

_PIECE_BYTES = 1024 * 1024
_NO_FOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "arrow": ".arrow"}


class ByteStream(Protocol):
    """Standard input, a pipe, a socket's file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Blocks."""
        ...


class Spooled(NamedTuple):
    """A file of the spool, and the SHA-256 of what is in it, in hex."""

    path: Path
    sha256: str


def is_byte_stream(source: Any) -> bool:
    """Whether this is a file object open for reading, rather than rows."""
    return hasattr(source, "read") and not hasattr(source, "__arrow_c_stream__") and not hasattr(source, "__aiter__")


async def spool_bytes(stream: ByteStream, path: Path, hold: SpoolHold, off_loop: OffLoop) -> Spooled:
    """Write what a stream has to the spool.

    Raises:
        JournalError: The spool cannot be written.
    """

    async def pieces() -> AsyncIterator[bytes]:
        while piece := await off_loop(stream.read, _PIECE_BYTES):
            yield piece

    return await _spool(pieces(), path, hold, off_loop)


async def spool_rows(source: AsyncSource, path: Path, hold: SpoolHold, off_loop: OffLoop) -> Spooled:
    """Write the batches of a source to the spool, as an Arrow stream.

    Raises:
        SourceError: From the source.
        JournalError: The spool cannot be written.
    """
    async with contextlib.aclosing(source), contextlib.aclosing(await source.open()) as blocks:
        return await _spool(_ipc_pieces(blocks, off_loop), path, hold, off_loop)


class _Pieces:
    """A sink for the IPC writer whose bytes are taken away after each batch."""

    closed = False

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: Any) -> int:
        self._pieces.append(bytes(data))
        return len(self._pieces[-1])

    def flush(self) -> None:
        """Nothing is held back."""

    def take(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)


async def _ipc_pieces(blocks: BlockStream[SourceBlock], off_loop: OffLoop) -> AsyncIterator[bytes]:
    sink = _Pieces()
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
    """Keeps a spool file from being deleted while a push needs it; use with `with`. Holds one file, or none.

    It is an OS lock on the file itself: it goes along when `.part` is renamed, and the system gives it back however the process ends.
    Pushes share it, because a push may be resumed while another one reads the file. Who deletes takes it alone, or not at all. On Windows an
    open file can be neither renamed nor deleted: it is let go for that moment (`release_name`), in which whoever opens it prevents the deletion.

    The calls do not wait and are made on the event loop: a thread's answer would be lost with a cancellation, and the lock kept for good.
    """

    def __init__(self) -> None:
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.release()

    def create(self, path: Path) -> BinaryIO:
        """Make a new private file and hold it; the file object is for the caller to close, the hold outlives it.

        Raises:
            OSError: It cannot be made.
        """
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        try:
            self._hold(path, is_exclusive=False)
        except BaseException:
            file.close()
            raise
        return file

    def take(self, path: Path) -> bool:
        """Hold an existing file, beside others who do; False if it is gone or being deleted. Keeps what is held already."""
        return self._lock is not None or self._try(path, is_exclusive=False)

    def take_exclusively(self, path: Path) -> bool:
        """Hold an existing file that nobody else holds; False if that cannot be."""
        return self._try(path, is_exclusive=True)

    def release(self) -> None:
        """Let it go; safe to call twice."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def release_name(self) -> None:
        """Let the file be renamed or deleted by its holder: where that needs it closed, it is let go."""
        if not MOVES_WHILE_OPEN:
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
    part = path.with_name(path.name + ".part")
    digest = hashlib.sha256()
    try:
        await off_loop(_make_folder, path.parent)
        file = hold.create(part)
        try:
            try:
                async for piece in pieces:
                    await off_loop(_write, file, piece, digest)
                await off_loop(_flush, file)
            finally:
                with contextlib.suppress(OSError):  # what could not be written was told by then
                    file.close()
            hold.release_name()
            await finish(off_loop(_publish, part, path))
            hold.take(path)
        except BaseException:
            hold.release_name()
            for left in (part, path):
                with contextlib.suppress(OSError):
                    left.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise JournalError(
            f"cannot write the spool: {error.strerror or error}",
            path=str(path),
            hint="the state folder must be writable and have room for the whole source; PUSHENGINE_STATE_DIR names another",
        ) from error
    return Spooled(path, digest.hexdigest())


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
    if not MOVES_WHILE_OPEN:  # nor can a folder be opened there, to be flushed
        return
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def list_old_spools(folder: Path, before: float) -> list[Path]:
    """Files of the spool that were last changed before this time (seconds UTC). Blocking; another process may delete them meanwhile."""
    old = []
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
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
    """Write any source that can be read once to the spool; the file to push from, which `hold` holds.

    Raises:
        ConfigError: A byte stream without a format.
        SourceError: From the source.
        JournalError: The spool cannot be written.
    """
    if not is_byte_stream(source):
        return await spool_rows(await open_rows(), folder / f"{push_id}.arrow", hold, off_loop)
    if source_format not in _SUFFIXES:
        raise ConfigError(
            "a stream has no name that tells its format", key="format", hint=f"--format {'|'.join(_SUFFIXES)}"
        )
    return await spool_bytes(source, folder / f"{push_id}{_SUFFIXES[source_format]}", hold, off_loop)
