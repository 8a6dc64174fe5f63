"""Sources that can be read only once, kept on disk until the platform has loaded them.

An iterator, a stream of batches or standard input is written to `spool/<push_id>.<suffix>` in the state folder and pushed from there: it can
then be read again, by a restart with a better schema or by another process after a crash. The file is complete and on the disk
(written under another name, fsync, rename, fsync of the folder) before the push is in the journal. It is deleted when the push is
over, or by age.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import aiofiles
import pyarrow as pa

from pushengine.errors import ConfigError, JournalError
from pushengine.sources import AsyncSource
from pushengine.types import OffLoop, Source, SourceBatch, SourceBlock

_PIECE_BYTES = 1024 * 1024
_SUFFIXES = {"csv": ".csv", "parquet": ".parquet", "arrow": ".arrow"}


class ByteStream(Protocol):
    """Standard input, a pipe, a socket's file."""

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes; none at the end. Blocks."""
        ...


def is_byte_stream(source: Any) -> bool:
    """Whether this is a file object open for reading, rather than rows."""
    return hasattr(source, "read") and not hasattr(source, "__arrow_c_stream__") and not hasattr(source, "__aiter__")


async def spool_bytes(
    stream: ByteStream, folder: Path, push_id: str, source_format: str | None, off_loop: OffLoop
) -> Path:
    """Write what a stream has to the spool.

    Raises:
        ConfigError: The format is not told.
        JournalError: The spool cannot be written.
    """
    if source_format not in _SUFFIXES:
        raise ConfigError(
            "a stream has no name that tells its format", key="format", hint=f"--format {'|'.join(_SUFFIXES)}"
        )

    async def pieces() -> AsyncIterator[bytes]:
        while piece := await off_loop(stream.read, _PIECE_BYTES):
            yield piece

    return await _spool(pieces(), folder / f"{push_id}{_SUFFIXES[source_format]}", off_loop)


async def spool_rows(source: Source | AsyncSource, folder: Path, push_id: str, off_loop: OffLoop) -> Path:
    """Write the batches of a source to the spool, as an Arrow stream.

    Raises:
        SourceError: From the source.
        JournalError: The spool cannot be written.
    """
    batches = source.batches if isinstance(source, AsyncSource) else _batches_of(source, off_loop)
    try:
        return await _spool(_ipc_pieces(batches), folder / f"{push_id}.arrow", off_loop)
    finally:
        if isinstance(source, AsyncSource):
            await source.aclose()


async def _batches_of(source: Source, off_loop: OffLoop) -> AsyncIterator[SourceBatch]:
    reader = await off_loop(source.open)
    blocks = iter(reader)
    try:
        while (batch := await off_loop(_next_decoded, blocks)) is not None:
            yield batch
    finally:
        await off_loop(reader.close)


def _next_decoded(blocks: Iterator[SourceBlock]) -> SourceBatch | None:
    block = next(blocks, None)
    return None if block is None else block.decode()


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


async def _ipc_pieces(batches: AsyncIterator[SourceBatch]) -> AsyncIterator[bytes]:
    sink = _Pieces()
    writer: Any = None
    async for source in batches:
        if writer is None:
            writer = pa.ipc.new_stream(sink, source.batch.schema)
        writer.write_batch(source.batch)
        yield sink.take()
    if writer is not None:
        writer.close()
    yield sink.take()


async def _spool(pieces: AsyncIterator[bytes], path: Path, off_loop: OffLoop) -> Path:
    part = path.with_name(path.name + ".part")
    try:
        await off_loop(_make_folder, path.parent)
        try:
            async with aiofiles.open(part, "xb", opener=_private) as file:
                async for piece in pieces:
                    await file.write(piece)
                await file.flush()
                await off_loop(os.fsync, file.fileno())
            await off_loop(_publish, part, path)
        except BaseException:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise JournalError(
            f"cannot write the spool: {error.strerror or error}",
            path=str(path),
            hint="the state folder must be writable and have room for the whole source; PUSHENGINE_STATE_DIR names another",
        ) from error
    return path


def _make_folder(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)


def _private(name: str, flags: int) -> int:
    return os.open(name, flags, 0o600)


def _publish(part: Path, path: Path) -> None:
    part.rename(path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def delete_old_spools(folder: Path, before: float) -> int:
    """Delete spool files last changed before this time (seconds UTC); returns how many. Blocking."""
    old = [path for path in folder.glob("*") if path.stat().st_mtime < before] if folder.is_dir() else []
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


async def spool_source(
    source: Any,
    folder: Path,
    push_id: str,
    *,
    source_format: str | None,
    open_rows: Callable[[], Source | AsyncSource],
    off_loop: OffLoop,
) -> Path:
    """Write any source that can be read once to the spool; the path to push from.

    Raises:
        ConfigError: A byte stream without a format.
        SourceError: From the source.
        JournalError: The spool cannot be written.
    """
    if is_byte_stream(source):
        return await spool_bytes(source, folder, push_id, source_format, off_loop)
    return await spool_rows(await off_loop(open_rows), folder, push_id, off_loop)
