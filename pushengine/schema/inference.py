"""The schema of a push: settled from what its columns may be read as, and applied to every batch.

`SchemaSettler` keeps, per column, the readings (`pushengine.schema.conversions`) that held for everything seen so far and takes the first of
them; `conform` applies it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError, ValueMisfitError
from pushengine.interfaces import SourceBatch, SourceBlock
from pushengine.model import ColumnType, TableColumn
from pushengine.schema.conversions import (
    READINGS,
    TEXT,
    MisfitError,
    OutOfRangeError,
    Reading,
    decoded,
    decoded_type,
    forced_readings,
    is_string,
    largest,
    readings_of,
    text_reading,
)

T = TypeVar("T")

RESERVED_NAMES = ("_celonis_change_date",)
"""The platform adds these itself (case-folded)."""
MIN_LENGTH = 80
MAX_LENGTH = 16_250
"""Characters; times 4 bytes this is the platform's ceiling of 65,000 bytes for a value."""
LENGTH_HEADROOM = 2
_SHOWN_CHARACTERS = 40
_SHOWN_NAMES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """One settled column.

    Attributes:
        name: As the source and the target call it.
        type: The platform's type.
        arrow_type: Physical type in every chunk.
        length: Declared length in characters, for STRING.
        reading: Name of the reading that values go through; empty for the obvious one.
        is_forced: The user asked for this type.
    """

    name: str
    type: ColumnType
    arrow_type: pa.DataType
    length: int | None = None
    reading: str = ""
    is_forced: bool = False

    def __repr__(self) -> str:
        return f"{self.name} {self.type}" + ("" if self.length is None else f"({self.length})")


@dataclasses.dataclass(frozen=True, slots=True)
class TableSchema:
    """The one schema of a push: every chunk has exactly these columns and physical types.

    Attributes:
        columns: In the order of the source.
        keys: Key columns; no value of theirs may be missing.
    """

    columns: tuple[Column, ...]
    keys: tuple[str, ...] = ()

    @property
    def arrow_schema(self) -> pa.Schema:
        """Physical schema of every chunk."""
        return pa.schema([pa.field(column.name, column.arrow_type) for column in self.columns])

    def table_columns(self) -> list[TableColumn]:
        """What the platform is told (`tableSchema.columns`)."""
        return [TableColumn(column.name, column.type, column.length) for column in self.columns]

    def __repr__(self) -> str:
        return f"TableSchema({', '.join(map(repr, self.columns))})"


# --- Errors -----------------------------------------------------------------------------------------------------------------------


def _position(source: SourceBatch, index: int, name: str) -> str:
    line = "" if source.first_line is None else f" (line {source.first_line + index})"
    return f"row {source.first_row + index + 1}{line}, column {name}"


def _shown(value: Any) -> str:
    try:
        text = str(value.as_py())
    except (ValueError, OverflowError):  # not UTF-8, or nanoseconds that datetime does not hold
        text = "?"
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "…")


def _error_class(value: pa.Array, column: Column) -> type[SchemaError]:
    """Whether a schema settled from all values would hold this one."""
    try:
        if column.is_forced:
            readings = forced_readings(value.type, column.type)
            fits = any(reading.fits(value, reading.arrow_type or column.arrow_type) for reading in readings)
        else:
            text = text_reading(readings_of(value.type, is_text=True))
            fits = text is not None and text.fits(value, pa.string())
        if fits and column.arrow_type == pa.string():
            fits = largest(pc.utf8_length(TEXT.parse(value, pa.string()))) <= MAX_LENGTH
    except ValueError:
        return SchemaError
    return ValueMisfitError if fits else SchemaError


def _misfit(source: SourceBatch, array: pa.Array, index: int, column: Column, reason: str) -> SchemaError:
    value = array.slice(index, 1)
    return _error_class(value, column)(
        f"{_shown(value[0])} does not fit {column!r}: {reason}",
        source=source.source,
        position=_position(source, index, column.name),
        hint="declare the column STRING" if column.is_forced and column.type != "STRING" else "",
    )


def _reason(exc: ValueError) -> str:
    return str(exc) if isinstance(exc, MisfitError) else "it would come back changed"


def _too_long(source: SourceBatch, strings: pa.Array, name: str, limit: int) -> SchemaError | None:
    """The first value of more than `limit` characters."""
    if largest(pc.binary_length(strings)) <= limit:
        return None
    lengths = pc.utf8_length(strings)
    if largest(lengths) <= limit:
        return None
    index = pc.index(pc.greater(lengths, limit), value=True).as_py()
    characters = lengths[index].as_py()
    if characters <= MAX_LENGTH:
        error: type[SchemaError] = ValueMisfitError
        reason = f"declared with {limit}"
    else:
        error, reason = SchemaError, f"the platform cuts at {MAX_LENGTH}"
    return error(
        f"{_shown(strings[index])} has {characters} characters, {reason}",
        source=source.source,
        position=_position(source, index, name),
        hint="shorten the value or leave the column out" if error is SchemaError else "",
    )


def _require_key(source: SourceBatch, array: pa.Array, name: str) -> None:
    if array.null_count or pa.types.is_null(array.type):
        index = pc.index(array.is_null(), value=True).as_py()
        raise SchemaError(
            "no value in a key column",
            source=source.source,
            position=_position(source, max(index, 0), name),
            hint="rows without a key cannot be matched in the table",
        )


# --- Settling ---------------------------------------------------------------------------------------------------------------------


Locate = Callable[[SourceBatch], SourceBatch]


def _as_it_is(source: SourceBatch) -> SourceBatch:
    return source


class _Candidates:
    """What one column may still become."""

    def __init__(self, field: pa.Field, readings: Sequence[Reading], forced: ColumnType | None) -> None:
        self.name: str = field.name
        self.source_type = field.type
        self.readings = list(readings)
        self.forced = forced
        self.has_values = False
        self.longest = 0
        self.too_long: SchemaError | None = None

    def physical(self, reading: Reading) -> pa.DataType:
        return reading.arrow_type or pa.timestamp(self.source_type.unit)

    def column(self) -> Column:
        reading = self.readings[0] if self.has_values or self.forced or not is_string(self.source_type) else TEXT
        kind = self.forced or reading.type
        if kind != "STRING":
            return Column(self.name, kind, self.physical(reading), None, reading.name, self.forced is not None)
        if self.too_long is not None:
            raise self.too_long
        length = min(max(self.longest * LENGTH_HEADROOM, MIN_LENGTH), MAX_LENGTH)
        return Column(self.name, kind, pa.string(), length, reading.name, self.forced is not None)

    def observe(self, source: SourceBatch, array: pa.Array, located: Locate) -> None:
        if array.null_count == len(array) or pa.types.is_null(array.type):
            return
        self.has_values = True
        before = self.readings
        try:
            readings = [reading for reading in before if reading.fits(array, self.physical(reading))]
        except OutOfRangeError as exc:
            raise self._refusal(source, array, before) from exc
        if not readings:
            raise self._refusal(source, array, before)
        self.readings = readings
        text = text_reading(self.readings)
        if text is not None:
            self._measure(source, text.parse(array, pa.string()), located)

    def _measure(self, source: SourceBatch, strings: pa.Array, located: Locate) -> None:
        if largest(pc.binary_length(strings)) > self.longest:
            self.longest = max(self.longest, largest(pc.utf8_length(strings)))
            if self.longest > MAX_LENGTH and self.too_long is None:
                self.too_long = _too_long(located(source), strings, self.name, MAX_LENGTH)

    def _refusal(self, source: SourceBatch, array: pa.Array, readings: Sequence[Reading]) -> SchemaError:
        """The value at which the last of the readings failed."""
        index, reading = -1, readings[0]
        for candidate in readings:
            failed_at = candidate.first_misfit(array, self.physical(candidate))
            if failed_at > index:
                index, reading = failed_at, candidate
        reason = "unlike the values before it"
        try:
            reading.parse(array.slice(index, 1), self.physical(reading))
        except ValueError as exc:
            reason = _reason(exc)
        kind = self.forced or reading.type
        return SchemaError(
            f"{_shown(array[index])} does not fit {self.name} {kind}: {reason}",
            source=source.source,
            position=_position(source, index, self.name),
            hint="declare the column STRING" if self.forced else "",
        )


class SchemaSettler:
    """Finds the schema of a push from a sample of its rows, or from all of them.

    A schema settled from all batches holds for all of them: `conform` then raises no `ValueMisfitError`. Not thread-safe.
    """

    def __init__(
        self,
        source_schema: pa.Schema,
        *,
        is_text: bool,
        overrides: Mapping[str, ColumnType] | None = None,
        keys: Iterable[str] = (),
        source: str = "",
    ) -> None:
        """Check names and types.

        Raises:
            SchemaError: A name is empty, reserved or there twice, a type cannot be held, a key or override names no column.
        """
        self._source = source
        self._keys = tuple(keys)
        self._check_names(source_schema.names)
        wanted = dict(overrides or {})
        for role, names in (("key", self._keys), ("type override", wanted)):
            self._check_known(source_schema.names, role, names)
        self._columns = [self._candidates(field, wanted.get(field.name), is_text=is_text) for field in source_schema]

    def _fail(self, message: str, hint: str = "") -> SchemaError:
        return SchemaError(message, source=self._source, hint=hint)

    def _check_names(self, names: Sequence[str]) -> None:
        if not names:
            raise self._fail("there are no columns")
        seen: dict[str, str] = {}
        for number, name in enumerate(names, 1):
            folded = name.casefold()
            if not name.strip():
                raise self._fail(f"column {number} has no name")
            if folded in RESERVED_NAMES:
                raise self._fail(
                    f"column {name}: the platform adds a column of this name itself", "rename or leave it out"
                )
            if folded in seen:
                other = seen[folded]
                message = (
                    f"column {name} is there twice"
                    if other == name
                    else f"columns {other} and {name} differ by letter case only"
                )
                raise self._fail(message, "column names of the platform are case-insensitive")
            seen[folded] = name

    def _check_known(self, names: Sequence[str], role: str, wanted: Iterable[str]) -> None:
        for name in wanted:
            if name not in names:
                alike = [known for known in names if known.casefold() == name.casefold()]
                shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
                hint = f"is it {alike[0]}?" if alike else f"columns: {shown}"
                raise self._fail(f"{role} {name} is no column of the source", hint)

    def _candidates(self, field: pa.Field, forced: ColumnType | None, *, is_text: bool) -> _Candidates:
        arrow_type = decoded_type(field.type)
        readings = readings_of(arrow_type, is_text=is_text)
        if not readings:
            raise self._fail(
                f"column {field.name}: type {field.type} cannot be held by the target",
                "flatten, convert or leave it out"
                if pa.types.is_nested(arrow_type)
                else "convert it to text or a number",
            )
        if forced is not None:
            readings = forced_readings(arrow_type, forced)
            if not readings:
                raise self._fail(
                    f"column {field.name}: {field.type} cannot become {forced}", "declare the column STRING"
                )
        return _Candidates(pa.field(field.name, arrow_type), readings, forced)

    def observe(self, source: SourceBatch, located: Locate = _as_it_is) -> None:
        """Learn from a batch.

        Args:
            source: The rows.
            located: Gives the batch with the row that it begins with, for an error that may come of it later.

        Raises:
            SchemaError: A value that no schema under these overrides can hold.
        """
        for candidates in self._columns:
            array = decoded(_column_named(source, candidates.name))
            if candidates.name in self._keys and len(array):
                _require_key(source, array, candidates.name)
            candidates.observe(source, array, located)

    def settle(self) -> TableSchema:
        """The schema that holds for all that was observed.

        Raises:
            SchemaError: A string is longer than the platform holds.
        """
        return TableSchema(tuple(candidates.column() for candidates in self._columns), self._keys)


# --- Conforming -------------------------------------------------------------------------------------------------------------------


def _column_named(source: SourceBatch, name: str) -> pa.Array:
    batch = source.batch
    index = batch.schema.get_field_index(name)
    if index < 0:
        raise SchemaError(f"column {name} is missing", source=source.source, position=f"row {source.first_row + 1}")
    return batch.column(index)


def conform(schema: TableSchema, source: SourceBatch) -> pa.RecordBatch:
    """Bring a batch to the settled schema, checking every value. Thread-safe; Arrow works without the interpreter lock.

    Raises:
        ValueMisfitError: A value outside this schema, which a schema settled from the whole source would hold.
        SchemaError: Other columns, a key without value, or a value that the target cannot hold.
    """
    batch = source.batch
    if batch.num_columns > len(schema.columns):
        extra = set(batch.schema.names) - {column.name for column in schema.columns}
        raise SchemaError(
            f"unexpected column {', '.join(sorted(extra)) or 'twice'}",
            source=source.source,
            position=f"row {source.first_row + 1}",
        )
    arrays = [_conform_column(source, column, is_key=column.name in schema.keys) for column in schema.columns]
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in schema.columns])


def checked(block: SourceBlock, check: Callable[[SourceBatch], T]) -> T:
    """What `check` makes of the rows of a block; where it refuses them, its error tells the right row and line.

    Raises:
        SourceError: Malformed rows, or from `check`.
    """
    batch = block.decode()
    try:
        return check(batch)
    except SchemaError:
        located = block.located(batch)
        if located is batch:
            raise
    return check(located)


def _conform_column(source: SourceBatch, column: Column, *, is_key: bool) -> pa.Array:
    array = decoded(_column_named(source, column.name))
    if is_key and len(array):
        _require_key(source, array, column.name)
    reading = READINGS.get(column.reading) or _obvious_reading(source, array, column)
    try:
        values = reading.read(array, column.arrow_type)
    except ValueError as exc:
        index = reading.first_misfit(array, column.arrow_type)
        raise _misfit(source, array, index, column, _reason(exc)) from exc
    except (
        NotImplementedError,
        AttributeError,
        TypeError,
    ) as exc:  # the column has another type than in the batches before
        raise _type_changed(source, array, column) from exc
    if column.length is not None:
        error = _too_long(source, values, column.name, column.length)
        if error is not None:
            raise error
    return values


def _obvious_reading(source: SourceBatch, array: pa.Array, column: Column) -> Reading:
    readings = forced_readings(array.type, column.type)
    fitting = [reading for reading in readings if reading.arrow_type in (None, column.arrow_type)]
    if not fitting:
        raise _type_changed(source, array, column)
    return fitting[0]


def _type_changed(source: SourceBatch, array: pa.Array, column: Column) -> SchemaError:
    return SchemaError(
        f"type {array.type} does not match {column!r}",
        source=source.source,
        position=f"row {source.first_row + 1}, column {column.name}",
    )
