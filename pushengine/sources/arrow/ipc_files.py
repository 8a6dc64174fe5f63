"""Source over Arrow IPC files, in file (Feather V2) or stream layout, read batch by batch as one table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceReadError, damaged, unreadable
from pushengine.interfaces import FileSystem, SourceBatch
from pushengine.model import FileRef
from pushengine.sources.arrow.validity import find_damage
from pushengine.sources.files import FilesSource, plain_batch, plain_schema
from pushengine.text import first_line

_FILE_MAGIC = b"ARROW1"
_SLICE_ROWS = 65_536


class _IpcPass:
    """One pass over one file, in the file or the stream layout."""

    def __init__(self, ref: FileRef, filesystem: FileSystem) -> None:
        self._ref = ref
        with contextlib.ExitStack() as stack:
            try:
                self._file = stack.enter_context(filesystem.open(ref))
                self._is_stream = self._file.read(len(_FILE_MAGIC)) != _FILE_MAGIC
                self._file.seek(0)
                open_layout = pa.ipc.open_stream if self._is_stream else pa.ipc.open_file
                self._reader: Any = open_layout(self._file)
                self.schema = plain_schema(self._reader.schema)
            except OSError as exc:
                raise (unreadable(ref.shown, exc) if exc.errno is not None else self._damaged(exc)) from exc
            except (pa.ArrowException, UnicodeDecodeError) as exc:
                raise self._damaged(exc) from exc
            self._stack = stack.pop_all()

    def _damaged(self, exc: Exception, row: int | None = None) -> SourceReadError:
        position = None if row is None else f"after row {row}"
        return damaged("Arrow", first_line(exc), source=self._ref.shown, position=position)

    def skip(self, rows: int) -> int:
        """Skip nothing: the row count of a batch is known only once the batch is read, and reading it is cheap."""
        del rows
        return 0

    def blocks(self) -> Iterator[SourceBatch]:
        rows = 0
        try:
            for raw in self._raw_batches():
                damage = find_damage(raw, rows)
                if damage is not None:
                    raise damaged("Arrow", damage.message, source=self._ref.shown, position=damage.position)
                batch = plain_batch(raw, self.schema)
                for start in range(0, batch.num_rows, _SLICE_ROWS):
                    part = batch.slice(start, _SLICE_ROWS)
                    yield SourceBatch(part, self._ref.shown, rows + start)
                rows += batch.num_rows
        except (pa.ArrowException, ValueError, OSError) as exc:
            raise self._damaged(exc, rows) from exc

    def _raw_batches(self) -> Iterator[Any]:
        if self._is_stream:
            yield from self._reader
            return
        for number in range(self._reader.num_record_batches):
            yield self._reader.get_batch(number)

    def bytes_read(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        self._stack.close()


class IpcSource(FilesSource):
    """Arrow files that all have the same schema, as one table."""

    is_text = False

    def __init__(self, refs: Sequence[FileRef], *, label: str, filesystem: FileSystem) -> None:
        super().__init__(refs, label=label, filesystem=filesystem)
        self._schema: pa.Schema | None = None

    def schema(self) -> pa.Schema:
        """Return the schema that all files have. Opens every file.

        Raises:
            SourceReadError: A file is damaged or not an Arrow file.
            SchemaError: The files differ in columns or types.
        """
        if self._schema is None:
            for ref in self.files:
                self._open(ref).close()
        return self._schema

    def _open(self, ref: FileRef) -> _IpcPass:
        one = _IpcPass(ref, self._filesystem)
        if self._schema is None:
            self._schema = one.schema
        if one.schema != self._schema:
            one.close()
            raise SchemaError(f"columns or types differ from those in {self.files[0].shown}", source=ref.shown)
        return one

    def _sample_of(self, ref: FileRef, max_bytes: int) -> Iterator[SourceBatch]:
        with contextlib.closing(self._open(ref)) as one:
            for batch in one.blocks():
                yield batch
                max_bytes -= batch.nbytes
                if max_bytes <= 0:
                    return


def open_files(refs: Sequence[FileRef], *, label: str, settings: EngineSettings, filesystem: FileSystem) -> IpcSource:  # noqa: ARG001
    """Return the source over these files. Called by `registry.open_source`."""
    return IpcSource(refs, label=label, filesystem=filesystem)
