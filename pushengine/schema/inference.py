"""Inference of the schema of a push from the values of its columns, and from the table if it exists.

For each column, `SchemaInference` keeps the candidates (`schema.candidates`) that worked for everything seen so far, and in the end takes
the first of them. `schema.conform` applies the resulting schema to every batch.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.schema.base import OutOfRangeError, is_string, largest
from pushengine.schema.candidates import Candidate, ColumnRules, candidates
from pushengine.schema.columns import Column, FixedBy, TableSchema
from pushengine.schema.conversions import (
    NO_VALUES,
    TEXT,
    decoded,
    decoded_type,
    forced_conversions,
    has_zone,
    is_zoned,
    text_conversion,
)
from pushengine.schema.drift import ColumnMatch, ColumnMatcher, MatchedColumn, describe_changes
from pushengine.schema.findings import Findings
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.schema.misfits import (
    all_misfits,
    column_named,
    fits_any,
    fixed_hint,
    nulls_at,
    position_of,
    reason_of,
    require_key,
    shown,
    too_long,
    too_long_at,
    with_setting,
)
from pushengine.schema.rules import MAX_LENGTH, SchemaRules
from pushengine.schema.text.values import TOO_FINE
from pushengine.schema.times.stamps import CUT_TO_MICROS, WHOLE_MICROS
from pushengine.text import flag

Locate = Callable[[SourceBatch], SourceBatch]


def _unchanged(source: SourceBatch) -> SourceBatch:
    return source


@dataclasses.dataclass(frozen=True, slots=True)
class InferredColumn:
    """A column of the inferred schema, with the reason for its type.

    Attributes:
        column: The column.
        reason: Why it has this type.
        value: A value that decided it: one that a better type does not hold, or the longest text. Empty if no single value did.
    """

    column: Column
    reason: str
    value: str = ""


@dataclasses.dataclass(frozen=True, slots=True)
class InferredSchema:
    """The schema that fits everything observed.

    Attributes:
        schema: The schema.
        columns: Its columns, with reasons; empty unless these were asked for.
        changes: Differences between the table and the push; empty if the table is new.
        question: The question whether a column was renamed; empty if there is none.
        notes: What the user should know about the source.
        is_empty: Whether the source has no rows.
    """

    schema: TableSchema
    columns: tuple[InferredColumn, ...]
    changes: tuple[str, ...] = ()
    question: str = ""
    is_empty: bool = False
    notes: tuple[str, ...] = ()


class _ObservedColumn:
    """One column of the source: what its values leave possible."""

    def __init__(
        self,
        match: MatchedColumn,
        arrow_type: pa.DataType,
        rules: ColumnRules,
        found: list[Candidate],
        *,
        is_text: bool,
        explains: bool,
    ) -> None:
        self.explains = explains
        self.is_text = is_text
        self.match = match
        self.source_type = arrow_type
        self.rules = rules
        self.candidates = found
        self.has_values = False
        self.longest = 0
        self.longest_value = ""
        self.rows = 0
        self.ruled_out: dict[str, tuple[int, str]] = {}
        self.too_long: SchemaError | None = None
        self.findings = Findings(match.name, match.source, rules, is_text=is_text)

    def physical(self, candidate: Candidate) -> pa.DataType:
        if candidate.conversion.arrow_type is not None:
            return candidate.conversion.arrow_type
        return pa.timestamp(self.source_type.unit) if pa.types.is_timestamp(self.source_type) else pa.timestamp("ms")

    @property
    def fixed_length(self) -> int | None:
        """The length that cannot change; None if the values decide."""
        rules = self.rules
        if rules.known is not None and rules.known.type == "STRING" and rules.is_fixed:
            return rules.known.length
        return rules.requested.length if rules.requested is not None else None

    @property
    def longest_allowed(self) -> int:
        """Number of characters that a string may have."""
        return MAX_LENGTH if self.rules.sends_longer else self.fixed_length or MAX_LENGTH

    @property
    def chosen(self) -> Candidate:
        """The first candidate for which the values are evidence enough."""
        return next(one for one in self.candidates if self.findings.is_evident(one))

    def note(self) -> str:
        """Return what the user should know about how the column is read; empty if there is nothing."""
        if self.chosen.conversion is CUT_TO_MICROS:
            return f"{self.match.name}: timestamps finer than a microsecond are cut to microseconds"
        return self.findings.note(self.candidates, self.chosen.type)

    def column(self, min_length: int, headroom: float) -> Column:
        rules = self.rules
        chosen = self.chosen
        is_open = rules.requested is None and rules.known is None
        if is_open and not self.has_values and is_string(self.source_type):
            chosen = Candidate(TEXT, "STRING")
        column = Column(
            self.match.name,
            chosen.type,
            self.physical(chosen),
            None,
            chosen.conversion.name,
            is_forced=rules.requested is not None,
            fixed_by=rules.fixed_by,
            source="" if self.match.source == self.match.name else self.match.source,
        )
        if chosen.type != "STRING":
            if self.findings.too_fine is not None and chosen.conversion.name in TOO_FINE:
                raise self.findings.too_fine
            return column
        if self.too_long is not None:
            raise self.too_long
        fixed = self.fixed_length
        length = fixed or min(max(int(self.longest * headroom), min_length), MAX_LENGTH)
        if fixed is not None and rules.sends_longer and self.longest > fixed:
            length = min(max(int(self.longest * headroom), fixed), MAX_LENGTH)
        elif fixed is None and rules.known is not None and rules.known.type == "STRING" and rules.known.length:
            # Lengths never shrink, and grow only if they have to.
            length = rules.known.length if self.longest <= rules.known.length else max(length, rules.known.length)
        return dataclasses.replace(
            column,
            arrow_type=pa.string(),
            length=length,
            has_fixed_length=fixed is not None and not rules.sends_longer,
        )

    def reason(self, column: Column) -> tuple[str, str]:
        """Return why the column has its type, and the value that decided it."""
        known = self.rules.known
        place = "file of columns" if self.rules.fixed_by == "file" else "table"
        if self.rules.requested is not None:
            return "as requested", ""
        if not self.has_values:
            return (f"as in the {place}; no values" if known is not None else "no values"), ""
        if known is not None and known.type == column.type:
            is_longer = known.length not in (None, column.length)
            return (f"longer than in the {place}", self.longest_value) if is_longer else (f"as in the {place}", "")
        if column.type == "STRING" and any(one.type == "FLOAT" for one in self.candidates):
            return self.findings.reason(), self.longest_value
        # The type that survived longest is the one that the values look like.
        ruled_out = self.ruled_out if column.type in ("STRING", "FLOAT") else {}
        better = max(ruled_out, key=lambda kind: (ruled_out[kind][0], kind != "DATETIME"), default="")
        if better:
            return f"not {better}", ruled_out[better][1]
        return ("text", self.longest_value) if column.type == "STRING" else ("every value fits", "")

    def rejected(self, array: pa.Array) -> list[int]:
        """Return the indices of the values that no candidate can hold, and drop the candidates that hold fewer than the best one."""
        if array.null_count == len(array) or pa.types.is_null(array.type):
            return []
        text = text_conversion(one.conversion for one in self.candidates)
        if text is None or all(one.type == "STRING" for one in self.candidates):
            best = self._best_misfits(array)
            if best:
                return best
        return [] if text is None else too_long_at(text.parse(array, pa.string()), self.longest_allowed)

    def _best_misfits(self, array: pa.Array) -> list[int]:
        # Digits that no DATETIME holds are a misfit like any other.
        usable = [one for one in self.candidates if one.conversion.name not in TOO_FINE] or self.candidates
        with contextlib.suppress(OutOfRangeError):
            if any(one.conversion.fits(array, self.physical(one)) for one in usable):
                return []
        misfits = [all_misfits(one.conversion, array, self.physical(one)) for one in usable]
        best = min(misfits, key=len)
        self.candidates = [one for one, found in zip(usable, misfits, strict=True) if found == best]
        return best

    def observe(self, source: SourceBatch, array: pa.Array, located: Locate) -> None:
        if array.null_count == len(array) or pa.types.is_null(array.type):
            return
        self.has_values = True
        before = self.candidates
        try:
            left = [one for one in before if one.conversion.fits(array, self.physical(one))]
        except OutOfRangeError as exc:
            raise self._refusal(source, array, before) from exc
        if not left:
            raise self._refusal(source, array, before)
        if self.explains and left[0].type != before[0].type:
            self._note_ruled_out(array, [one for one in before if one not in left])
        self.candidates = left
        self.findings.observe(source, array, before, left, is_first=not self.rows, located=located)
        self.rows += len(array)
        text = text_conversion(one.conversion for one in left)
        if text is not None:
            self._measure(source, text.parse(array, pa.string()), located)

    def _note_ruled_out(self, array: pa.Array, ruled_out: list[Candidate]) -> None:
        """Note which value ruled out each type, and how many values the type survived."""
        for one in ruled_out:
            index = one.conversion.first_misfit(array, self.physical(one))
            survived, _ = self.ruled_out.get(one.type, (-1, ""))
            if self.rows + index > survived:
                self.ruled_out[one.type] = (self.rows + index, shown(array[index]))

    def _measure(self, source: SourceBatch, strings: pa.Array, located: Locate) -> None:
        if largest(pc.binary_length(strings)) <= self.longest:
            return
        lengths = pc.utf8_length(strings)
        longest = largest(lengths)
        if longest <= self.longest:
            return
        self.longest = longest
        if self.explains:
            self.longest_value = shown(strings[pc.index(lengths, longest).as_py()])
        if longest > self.longest_allowed and self.too_long is None:
            self.too_long = too_long(located(source), strings, self._text_column())

    def _text_column(self) -> Column:
        """Return the column as it would be if it is text, with the longest length that is allowed."""
        return Column(
            self.match.name,
            "STRING",
            pa.string(),
            self.longest_allowed,
            is_forced=self.rules.requested is not None,
            fixed_by=self.rules.fixed_by,
            has_fixed_length=self.fixed_length is not None,
            source=self.match.source,
        )

    def _refusal(self, source: SourceBatch, array: pa.Array, before: list[Candidate]) -> SchemaError:
        """Return the error for the value that ruled out the last of the candidates."""
        index, candidate = -1, before[0]
        for one in before:
            failed_at = one.conversion.first_misfit(array, self.physical(one))
            if failed_at > index:
                index, candidate = failed_at, one
        reason = "its format differs from that of the values before it"
        value = array.slice(index, 1)
        try:
            candidate.conversion.parse(value, self.physical(candidate))
        except ValueError as exc:
            reason = self._zone_reason(value) or reason_of(exc)
        kind = candidate.type
        is_forced = self.rules.requested is not None
        hint = "declare the column STRING" if is_forced and kind != "STRING" else ""
        if candidate.conversion is WHOLE_MICROS and fits_any((CUT_TO_MICROS,), value):  # a key: two could become one
            hint = f"{flag('column', f'{self.match.name}=DATETIME')} cuts it, also where that makes two keys one"
        elif self.rules.is_fixed:
            hint = fixed_hint(self._text_column(), kind, value)
        hint = with_setting(hint, array, index, kind, is_key=self.rules.is_key, has_words=self.is_text)
        return SchemaError(
            f"{shown(array[index])} does not fit {self.match.name} {kind}: {reason}",
            source=source.source,
            position=position_of(source, index, self.match.source),
            hint=hint,
        )

    def _zone_reason(self, value: pa.Array) -> str:
        """Return the reason if a value is refused only because it has a time zone, or has none; empty otherwise."""
        known = self.rules.known
        if known is None or known.type != "DATETIME" or not known.conversion or not self.rules.is_fixed:
            return ""
        is_utc = is_zoned(known.conversion)
        others = [one for one in forced_conversions(value.type, "DATETIME") if has_zone(value.type, one) is not is_utc]
        if not fits_any(others, value):
            return ""
        return (
            "it has no time zone, but the values of the table had one"
            if is_utc
            else ("it has a time zone, but the values of the table had none")
        )


class SchemaInference:
    """Infers the schema of a push from a sample of its rows, or from all of them.

    A schema inferred from all batches fits all of them: `conform` then never raises `ValueMisfitError`. Not thread-safe.

    Args:
        source_schema: Columns of the source.
        is_text: Whether the source is text, whose types are inferred from the values.
        rules: What decides the schema besides the values.
        known: The table that the rows are for; None if it is new or nothing is known of it.
        source: Name of the source, for messages.
        explains: Whether to find the reasons for the types, which takes longer; otherwise `InferredSchema.columns` is empty.

    Raises:
        SchemaError: A name is empty, reserved or duplicated, the target cannot hold a type, the table has a column of another type that
            cannot change, or a key, selection, rename or requested type names no column.
    """

    def __init__(
        self,
        source_schema: pa.Schema,
        *,
        is_text: bool,
        rules: SchemaRules | None = None,
        known: KnownTable | None = None,
        source: str = "",
        explains: bool = False,
    ) -> None:
        self._source = source
        self._explains = explains
        self._rules = (rules or SchemaRules()).spelled_like(source_schema.names)
        self._known = known
        self._matcher = ColumnMatcher(self._rules, known, source)
        self._match: ColumnMatch = self._matcher.match(source_schema.names)
        self._columns = [
            self._observed(one, decoded_type(source_schema.field(one.source).type), is_text=is_text)
            for one in self._match.columns
        ]

    @property
    def has_columns_of_table(self) -> bool:
        """Whether the table is known and has exactly the columns that are sent."""
        match = self._match
        return self._known is not None and not (match.new or match.left_out or match.missing or match.dropped)

    def _observed(self, match: MatchedColumn, arrow_type: pa.DataType, *, is_text: bool) -> _ObservedColumn:
        rules = self._rules
        known = match.known
        requested = rules.requested_type(match.name, match.source)
        is_named = match.name in rules.column_types or match.source in rules.column_types
        if requested is not None and known is not None and rules.is_delta and not is_named:
            # A pattern may serve many tables; only a type that is requested by name contradicts the table.
            requested = requested if requested.type == known.type else None
        fixed_by: FixedBy = ""
        if known is not None and (rules.is_delta or (rules.types == "refuse" and requested is None)):
            fixed_by = "table" if rules.is_delta else "policy"
        default = rules.default_type(match.name, match.source) if requested is None else None
        if default is not None and not (rules.is_delta and known is not None):
            known, fixed_by = KnownColumn(match.name, default.type, default.length), "file"
        if known is not None and requested is not None and rules.is_delta and requested.type != known.type:
            raise SchemaError(
                f"column {match.name}: {requested} is requested, but the table has {known!r}, and append, upsert and delete cannot change it",
                source=self._source,
                hint="leave out the requested type; or change the column by loading the whole table again:"
                f" --mode replace {flag('column', f'{match.name}={requested}')}",
            )
        is_key = match.name in self._match.keys
        column_rules = ColumnRules(
            requested=requested,
            known=known,
            fixed_by=fixed_by,
            is_key=is_key,
            sends_longer=rules.on_longer_string == "send" and rules.is_delta and known is not None,
            formats=rules.formats.for_column(match.name, match.source),
        )
        found = candidates(arrow_type, column_rules, is_text=is_text)
        if not found:
            raise self._impossible(match, arrow_type, column_rules)
        return _ObservedColumn(match, arrow_type, column_rules, found, is_text=is_text, explains=self._explains)

    def _impossible(self, match: MatchedColumn, arrow_type: pa.DataType, rules: ColumnRules) -> SchemaError:
        """Return the error for a column that has no candidate."""
        name = match.name
        if rules.requested is not None:
            message = f"{arrow_type} cannot become {rules.requested}"
            hint = "declare the column STRING"
        elif rules.is_key and (
            pa.types.is_floating(arrow_type) or (rules.known is not None and rules.known.type == "FLOAT")
        ):
            message = "a key cannot be FLOAT: 1.1 and 1.10 would be one key"
            hint = f"{flag('column', f'{name}=FLOAT')} if equal numbers are equal keys"
        elif rules.known is not None and rules.is_fixed:
            message = f"{arrow_type} does not fit {rules.known!r} of the table, which cannot change"
            column = Column(name, rules.known.type, pa.string(), fixed_by=rules.fixed_by)
            hint = fixed_hint(column, rules.known.type, pa.nulls(0, arrow_type))
        elif pa.types.is_nested(arrow_type):
            message = f"the target cannot store type {arrow_type}"
            hint = f"flatten it, convert it or leave it out: {flag('exclude', match.source)}"
        else:
            message = f"the target cannot store type {arrow_type}"
            hint = f"convert it to text or a number, or leave it out: {flag('exclude', match.source)}"
        return SchemaError(f"column {name}: {message}", source=self._source, hint=hint)

    def observe(self, source: SourceBatch, located: Locate = _unchanged) -> None:
        """Learn from a batch.

        Args:
            source: The rows.
            located: Returns the batch with its exact position. Called only for a string that is too long, since `infer_schema` may then
                raise an error.

        Raises:
            SchemaError: A key has no value, or no schema under these rules can hold a value.
        """
        if self._rules.allows_rejects and source.rows:
            source = self._without_rejects(source)
        for column in self._columns:
            array = decoded(column_named(source, column.match.source))
            if column.rules.is_key and len(array):
                require_key(source, array, column.match.source)
            column.observe(source, array, located)

    def _without_rejects(self, source: SourceBatch) -> SourceBatch:
        """Return the rows that some schema under these rules can hold: a row that is rejected decides nothing."""
        rejected: set[int] = set()
        for column in self._columns:
            array = decoded(column_named(source, column.match.source))
            if column.rules.is_key:
                rejected.update(nulls_at(array))
            rejected.update(column.rejected(array))
        return source.only([index for index in range(source.rows) if index not in rejected]) if rejected else source

    def infer_schema(self) -> TableSchema:
        """Return the schema that fits everything observed; see `infer`."""
        return self.infer().schema

    def infer(self, *, is_empty: bool = False) -> InferredSchema:
        """Return the schema that fits everything observed, and what it means for the table.

        Args:
            is_empty: The source has no rows, so the drift policy has nothing to refuse.

        Raises:
            SchemaError: A string is longer than its column or than the platform allows, or the drift policy does not allow the differences.
        """
        if not is_empty:
            self._matcher.require_allowed(self._match)
        rules = self._rules
        columns = [one.column(rules.min_string_length, rules.string_headroom) for one in self._columns]
        if not is_empty or not rules.is_delta:
            columns += [missing_column(one) for one in self._match.missing]
        schema = TableSchema(tuple(columns), self._match.keys, self._match.ignored)
        # An empty replace changes the table's columns, too, unless the source does not even have a header.
        is_unchanged = is_empty and (rules.is_delta or not self._columns)
        changes = () if is_unchanged else describe_changes(self._match, schema.columns, self._known, rules.mode)
        question = "" if is_unchanged else self._match.question
        names = {name for one in self._match.columns for name in (one.name, one.source)} | self._match.ignored
        lost = [name for name in rules.formats.column_date_formats if name not in names]
        notes = (
            *(f"there is no column {name}, for which a date format is given" for name in lost),
            *filter(None, (one.note() for one in self._columns)),
        )
        return InferredSchema(schema, self._explained(columns), changes, question, is_empty, notes)

    def _explained(self, columns: Sequence[Column]) -> tuple[InferredColumn, ...]:
        if not self._explains:
            return ()
        reasons = [one.reason(column) for one, column in zip(self._columns, columns, strict=False)]
        missing = [("not in the source", "")] * (len(columns) - len(reasons))
        return tuple(InferredColumn(column, *why) for column, why in zip(columns, [*reasons, *missing], strict=True))


def missing_column(known: KnownColumn) -> Column:
    """Return the column for one that the table has and the source lacks: NULL in every row."""
    conversion = NO_VALUES[known.type]
    length = (known.length or MAX_LENGTH) if known.type == "STRING" else None
    arrow_type = conversion.arrow_type or pa.string()
    return Column(known.name, known.type, arrow_type, length, conversion.name, fixed_by="table", is_missing=True)


def describe_columns(columns: tuple[InferredColumn, ...]) -> list[dict[str, object]]:
    """Return the columns with their reasons as plain JSON types."""
    return [
        {
            "name": one.column.name,
            "type": one.column.type,
            "length": one.column.length,
            "reason": one.reason,
            "value": one.value,
        }
        for one in columns
    ]
