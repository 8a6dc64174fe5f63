"""Encodes a chunk into a payload: one Parquet or CSV file in memory, with checksums. Runs on encoder threads.

The same chunk always yields the same bytes, so a resumed push can recognize by checksum what was sent before.

Parquet: restricted to what old readers understand. Format 2.4 (2.6 only for nanosecond timestamps as INT64), V1 pages, INT96 timestamps by
    default, no DECIMAL, no Arrow or pandas metadata. A row group holds about a million rows, or 64 MiB if that is less.
CSV: RFC 4180 with a header row and LF line ends, matching `wire.CSV_PARSING_OPTIONS`. Strings are quoted, so `""` is an empty string and
    an empty field is NULL. Timestamps are `yyyy-MM-dd'T'HH:mm:ss.SSSSSS`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as arrow_csv
import pyarrow.parquet as pq

from pushengine.config.settings import EngineSettings
from pushengine.errors import SchemaError, SourceError
from pushengine.interfaces import SourceBatch, SourceBlock
from pushengine.model import MAX_PAYLOAD_BYTES, FileType, Payload
from pushengine.pipeline.chunking import Chunk
from pushengine.schema.columns import TableSchema
from pushengine.schema.conform import checked, conform
from pushengine.schema.misfits import position_of

DIGESTS = ("sha256", "md5", "sha1", "crc32")
"""Algorithms that the platform may use for chunk checksums (fact sheet 1.7)."""
JOURNAL_DIGEST = "sha256"
"""The digest that the journal holds for every chunk, whichever algorithm the platform uses."""
_PROBED_ROWS, _PROBED_BATCHES = 1024, 16
_MAX_DISTINCT_SHARE = 0.9
ROW_GROUP_ROWS = 1_000_000
ROW_GROUP_BYTES = 64 * 1024 * 1024


class OversizedPayloadError(SourceError):
    """A payload is larger than the platform accepts; the producer then splits the chunk with `Chunk.halves()`."""


@dataclasses.dataclass(frozen=True, slots=True)
class EncodingOptions:
    """The format of payloads.

    Attributes:
        file_type: PARQUET or CSV.
        compression: Parquet codec.
        timestamps: Physical type of Parquet timestamps.
        max_payload_bytes: Maximum size; a larger payload raises `OversizedPayloadError`.
    """

    file_type: FileType = "PARQUET"
    compression: Literal["SNAPPY", "ZSTD", "NONE"] = "SNAPPY"
    timestamps: Literal["INT96", "INT64"] = "INT96"
    max_payload_bytes: int = MAX_PAYLOAD_BYTES

    @classmethod
    def of(cls, settings: EngineSettings) -> Self:
        """Return the options that the settings ask for."""
        return cls(settings.file_type, settings.compression, settings.timestamps)


Observe = Callable[[pa.RecordBatch], "np.ndarray[Any, np.dtype[np.bool_]] | None"]
"""Called with each batch of rows as they are sent; returns which of them to send, or None for all."""
Convert = Callable[[SourceBatch], pa.RecordBatch]
Load = Callable[[SourceBlock, TableSchema, Convert], pa.RecordBatch]
"""Converts the rows of a block, as `checked` does, and may leave some out that cannot be converted."""


def encode(
    chunk: Chunk,
    schema: TableSchema,
    options: EncodingOptions,
    digests: Sequence[str] = DIGESTS,
    *,
    observe: Observe | None = None,
    load: Load | None = None,
) -> Payload:
    """Decode, check and encode the rows of a chunk.

    Args:
        chunk: The rows.
        schema: The schema to which the rows are converted.
        options: The format of the payload.
        digests: Algorithms of the checksums to compute.
        observe: Watches the rows, and may leave some out.
        load: Loads the rows of a block; None requires that every row can be converted.

    Returns:
        The payload. Its `source_rows` count from the first row of the chunk.

    Raises:
        SourceReadError: Rows are malformed.
        SchemaError: A value does not fit the schema (see `schema.conform`).
        OversizedPayloadError: The payload is larger than allowed.
    """
    sink = pa.BufferOutputStream()
    write = _write_csv if options.file_type == "CSV" else _write_parquet
    rows = write(_Rows(chunk, schema, observe, load), options, sink)
    data = memoryview(sink.getvalue())
    if data.nbytes > options.max_payload_bytes:
        raise OversizedPayloadError(
            f"{rows} rows make a payload of {data.nbytes} bytes; at most {options.max_payload_bytes} are allowed",
            source=f"chunk {chunk.chunk_id}",
        )
    return Payload(
        chunk_id=chunk.chunk_id,
        data=data,
        rows=rows,
        source_rows=(0, rows),
        digests={name: _digest(name, data) for name in digests},
    )


def _digest(name: str, data: memoryview) -> str:
    if name == "crc32":
        return f"{zlib.crc32(data):08x}"
    return hashlib.new(name, data, usedforsecurity=False).hexdigest()


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """The rows of a chunk and how they are loaded; see `encode`."""

    chunk: Chunk
    schema: TableSchema
    observe: Observe | None
    load: Load | None


def _conformed(
    rows_of: _Rows, finish: Callable[[SourceBatch, pa.RecordBatch], pa.RecordBatch] | None = None
) -> Iterator[pa.Table]:
    """Yield the converted rows to send in tables the size of a row group; `finish` makes them what the format can represent."""
    schema, observe, load = rows_of.schema, rows_of.observe, rows_of.load

    def conformed(source: SourceBatch) -> pa.RecordBatch:
        rows = conform(schema, source)
        sent = rows if finish is None else finish(source, rows)
        mask = None if observe is None else observe(rows)
        return sent if mask is None else sent.filter(pa.array(mask))

    waiting: list[pa.RecordBatch] = []
    rows = nbytes = 0
    # Convert block by block, while the rows just parsed are still in the CPU cache.
    for block in rows_of.chunk.encoded_blocks:
        batch = checked(block, conformed) if load is None else load(block, schema, conformed)
        waiting.append(batch)
        rows += batch.num_rows
        nbytes += batch.nbytes
        if rows >= ROW_GROUP_ROWS or nbytes >= ROW_GROUP_BYTES:
            yield pa.Table.from_batches(waiting)
            waiting, rows, nbytes = [], 0, 0
    if waiting:
        yield pa.Table.from_batches(waiting)


def _write_parquet(rows_of: _Rows, options: EncodingOptions, sink: pa.BufferOutputStream) -> int:
    schema = rows_of.schema
    is_int96 = options.timestamps == "INT96"
    has_nanos = any(column.arrow_type == pa.timestamp("ns") for column in schema.columns)

    tables = _conformed(rows_of)
    first = next(tables)
    writer = pq.ParquetWriter(
        sink,
        schema.arrow_schema,
        version="2.6" if has_nanos and not is_int96 else "2.4",
        data_page_version="1.0",
        compression=options.compression,
        use_dictionary=_repetitive_columns(first),
        use_deprecated_int96_timestamps=is_int96,
        write_statistics=False,
        store_schema=False,
    )
    rows = 0
    with writer:
        for table in itertools.chain([first], tables):
            writer.write_table(table, row_group_size=max(table.num_rows, 1))
            rows += table.num_rows
            del table
    return rows


def _repetitive_columns(table: pa.Table) -> list[str]:
    """Return the string columns for which dictionary encoding pays off: those whose values repeat throughout the table.

    Building a dictionary for values that hardly repeat is wasted work.
    """
    names = [field.name for field in table.schema if field.type == pa.string()]
    batches = table.select(names).to_batches()
    if not batches:
        return []
    # Sample the whole table, because neighboring rows are alike: a sorted case key repeats within one case and nowhere else.
    batches = batches[:: max(len(batches) // _PROBED_BATCHES, 1)]
    rows = _PROBED_ROWS // len(batches)
    probe = pa.Table.from_batches(
        [batch.take(np.arange(0, batch.num_rows, max(batch.num_rows // rows, 1))) for batch in batches]
    )
    limit = _MAX_DISTINCT_SHARE * probe.num_rows
    return [name for name in names if pc.count_distinct(probe[name]).as_py() <= limit]


def _write_csv(rows_of: _Rows, _options: EncodingOptions, sink: pa.BufferOutputStream) -> int:
    columns = rows_of.schema.columns
    fields = [(c.name, pa.string() if pa.types.is_timestamp(c.arrow_type) else c.arrow_type) for c in columns]
    # "needed" makes Arrow quote every string, so that an empty string differs from NULL.
    write_options = arrow_csv.WriteOptions(include_header=True, quoting_style="needed")
    rows = 0
    with arrow_csv.CSVWriter(sink, pa.schema(fields), write_options=write_options) as writer:
        for table in _conformed(rows_of, _csv_batch):
            writer.write_table(table)
            rows += table.num_rows
    return rows


def _csv_batch(source: SourceBatch, batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the batch with timestamps as text; reject values that CSV cannot represent."""
    if batch.num_columns == 1 and batch.column(0).null_count:
        raise _csv_error(
            source,
            batch.schema.names[0],
            pc.is_null(batch.column(0)),
            "a NULL in a single-column table would be an empty line",
        )
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if pa.types.is_floating(field.type):
            is_not_finite = pc.invert(pc.is_finite(column))
            if pc.any(is_not_finite).as_py():
                raise _csv_error(source, field.name, is_not_finite, "not a finite number")
        columns.append(_csv_timestamps(source, field.name, column) if pa.types.is_timestamp(field.type) else column)
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _csv_timestamps(source: SourceBatch, name: str, column: pa.Array) -> pa.Array:
    if column.type.unit == "ns":
        has_nanos = pc.not_equal(column, column.cast(pa.timestamp("us"), safe=False).cast(column.type))
        if pc.any(has_nanos).as_py():
            raise _csv_error(source, name, has_nanos, "finer than a microsecond")
    texts = column.cast(pa.timestamp("us"), safe=False).cast(pa.string())
    return pc.replace_substring(texts, " ", "T")


def _csv_error(source: SourceBatch, name: str, mask: pa.Array, reason: str) -> SchemaError:
    index = pc.index(mask, value=True).as_py()
    return SchemaError(
        f"cannot be written as CSV: {reason}",
        source=source.source,
        position=position_of(source, index, name),
        hint="push with file_type PARQUET",
    )
