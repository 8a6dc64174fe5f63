"""Inference of the schema of a push from the values of its columns.

For each column, `SchemaInference` keeps the conversions (`schema.conversions`) that worked for everything seen so far, and in the end
takes the first of them. `schema.conform` applies the resulting schema to every batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.model import ColumnType
from pushengine.schema.columns import Column, TableSchema
from pushengine.schema.conversions import (
    TEXT,
    Conversion,
    OutOfRangeError,
    conversions_of,
    decoded,
    decoded_type,
    forced_conversions,
    is_string,
    largest,
    text_conversion,
)
from pushengine.schema.misfits import MAX_LENGTH, column_named, position_of, reason_of, require_key, shown, too_long

T = TypeVar("T")

RESERVED_NAMES = ("_celonis_change_date",)
"""Names of columns that the platform adds itself (case-folded)."""
MIN_LENGTH = 80
LENGTH_HEADROOM = 2
_SHOWN_NAMES = 20


Locate = Callable[[SourceBatch], SourceBatch]


def _unchanged(source: SourceBatch) -> SourceBatch:
    return source


class _Candidates:
    """The conversions that are still possible for one column."""

    def __init__(self, field: pa.Field, conversions: Sequence[Conversion], forced: ColumnType | None) -> None:
        self.name: str = field.name
        self.source_type = field.type
        self.conversions = list(conversions)
        self.forced = forced
        self.has_values = False
        self.longest = 0
        self.too_long: SchemaError | None = None

    def physical(self, conversion: Conversion) -> pa.DataType:
        return conversion.arrow_type or pa.timestamp(self.source_type.unit)

    def column(self) -> Column:
        conversion = self.conversions[0] if self.has_values or self.forced or not is_string(self.source_type) else TEXT
        kind = self.forced or conversion.type
        if kind != "STRING":
            return Column(self.name, kind, self.physical(conversion), None, conversion.name, self.forced is not None)
        if self.too_long is not None:
            raise self.too_long
        length = min(max(self.longest * LENGTH_HEADROOM, MIN_LENGTH), MAX_LENGTH)
        return Column(self.name, kind, pa.string(), length, conversion.name, self.forced is not None)

    def observe(self, source: SourceBatch, array: pa.Array, located: Locate) -> None:
        if array.null_count == len(array) or pa.types.is_null(array.type):
            return
        self.has_values = True
        before = self.conversions
        try:
            conversions = [conversion for conversion in before if conversion.fits(array, self.physical(conversion))]
        except OutOfRangeError as exc:
            raise self._refusal(source, array, before) from exc
        if not conversions:
            raise self._refusal(source, array, before)
        self.conversions = conversions
        text = text_conversion(self.conversions)
        if text is not None:
            self._measure(source, text.parse(array, pa.string()), located)

    def _measure(self, source: SourceBatch, strings: pa.Array, located: Locate) -> None:
        if largest(pc.binary_length(strings)) > self.longest:
            self.longest = max(self.longest, largest(pc.utf8_length(strings)))
            if self.longest > MAX_LENGTH and self.too_long is None:
                self.too_long = too_long(located(source), strings, self.name, MAX_LENGTH)

    def _refusal(self, source: SourceBatch, array: pa.Array, conversions: Sequence[Conversion]) -> SchemaError:
        """Return the error for the value that ruled out the last of the conversions."""
        index, conversion = -1, conversions[0]
        for candidate in conversions:
            failed_at = candidate.first_misfit(array, self.physical(candidate))
            if failed_at > index:
                index, conversion = failed_at, candidate
        reason = "its format differs from that of the values before it"
        try:
            conversion.parse(array.slice(index, 1), self.physical(conversion))
        except ValueError as exc:
            reason = reason_of(exc)
        kind = self.forced or conversion.type
        return SchemaError(
            f"{shown(array[index])} does not fit {self.name} {kind}: {reason}",
            source=source.source,
            position=position_of(source, index, self.name),
            hint="declare the column STRING" if self.forced else "",
        )


class SchemaInference:
    """Infers the schema of a push from a sample of its rows, or from all of them.

    A schema inferred from all batches fits all of them: `conform` then never raises `ValueMisfitError`. Not thread-safe.
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
        """Check the names and types of the columns.

        Raises:
            SchemaError: A name is empty, reserved or duplicated, the target cannot hold a type, or a key or override names no column.
        """
        self._source = source
        self._keys = tuple(keys)
        self._check_names(source_schema.names)
        type_overrides = dict(overrides or {})
        for role, names in (("key", self._keys), ("typed column", type_overrides)):
            self._check_known(source_schema.names, role, names)
        self._columns = [
            self._candidates(field, type_overrides.get(field.name), is_text=is_text) for field in source_schema
        ]

    def _error(self, message: str, hint: str = "") -> SchemaError:
        return SchemaError(message, source=self._source, hint=hint)

    def _check_names(self, names: Sequence[str]) -> None:
        if not names:
            raise self._error("the source has no columns")
        seen: dict[str, str] = {}
        for number, name in enumerate(names, 1):
            folded = name.casefold()
            if not name.strip():
                raise self._error(f"column {number} has no name")
            if folded in RESERVED_NAMES:
                raise self._error(
                    f"column {name}: the platform adds a column of this name itself", "rename it or leave it out"
                )
            if folded in seen:
                other = seen[folded]
                message = (
                    f"column {name} appears twice"
                    if other == name
                    else f"columns {other} and {name} differ only in letter case"
                )
                raise self._error(message, "column names on the platform are case-insensitive")
            seen[folded] = name

    def _check_known(self, names: Sequence[str], role: str, referenced: Iterable[str]) -> None:
        for name in referenced:
            if name not in names:
                similar = [known for known in names if known.casefold() == name.casefold()]
                shown = ", ".join(names[:_SHOWN_NAMES]) + (", …" if len(names) > _SHOWN_NAMES else "")
                hint = f"did you mean {similar[0]}?" if similar else f"columns: {shown}"
                raise self._error(f"{role} {name} is not a column of the source", hint)

    def _candidates(self, field: pa.Field, forced: ColumnType | None, *, is_text: bool) -> _Candidates:
        arrow_type = decoded_type(field.type)
        conversions = conversions_of(arrow_type, is_text=is_text)
        if not conversions:
            raise self._error(
                f"column {field.name}: the target cannot store type {field.type}",
                "flatten it, convert it or leave it out"
                if pa.types.is_nested(arrow_type)
                else "convert it to text or a number",
            )
        if forced is not None:
            conversions = forced_conversions(arrow_type, forced)
            if not conversions:
                raise self._error(
                    f"column {field.name}: {field.type} cannot become {forced}", "declare the column STRING"
                )
        return _Candidates(pa.field(field.name, arrow_type), conversions, forced)

    def observe(self, source: SourceBatch, located: Locate = _unchanged) -> None:
        """Learn from a batch.

        Args:
            source: The rows.
            located: Returns the batch with its exact position. Called only for a string that is too long, since `infer_schema` may then
                raise an error.

        Raises:
            SchemaError: A key has no value, or no schema under these overrides can hold a value.
        """
        for candidates in self._columns:
            array = decoded(column_named(source, candidates.name))
            if candidates.name in self._keys and len(array):
                require_key(source, array, candidates.name)
            candidates.observe(source, array, located)

    def infer_schema(self) -> TableSchema:
        """Return the schema that fits everything observed.

        Raises:
            SchemaError: A string is longer than the platform allows.
        """
        return TableSchema(tuple(candidates.column() for candidates in self._columns), self._keys)
