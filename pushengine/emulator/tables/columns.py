"""Columns of target tables: their DuckDB types, and the SQL that converts and silently truncates values for them.

DuckDB does not keep VARCHAR lengths, so the declared length of a column is stored in its comment: `VARCHAR(80)`. Each such comment
copies the definition of the whole table, so a table of more than `MAX_COMMENTED_COLUMNS` columns has one comment for all lengths.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from pushengine.emulator.chunks.csv_files import strptime_format
from pushengine.emulator.jobs.model import (
    MAX_FIELD_LENGTH,
    MAX_VARCHAR_BYTES,
    ColumnType,
    CsvOptions,
    FileColumn,
    JobSpec,
)

MAX_COMMENTED_COLUMNS = 250

DUCKDB_TYPES = {
    ColumnType.INTEGER: "BIGINT",
    ColumnType.FLOAT: "DOUBLE",
    ColumnType.BOOLEAN: "BOOLEAN",
    ColumnType.STRING: "VARCHAR",
    ColumnType.DATETIME: "TIMESTAMP",
    ColumnType.DATE: "DATE",
    ColumnType.TIME: "TIME",
}
COLUMN_TYPES = {name: column_type for column_type, name in DUCKDB_TYPES.items()}
WIDENINGS = {("BIGINT", "DOUBLE"), ("DATE", "TIMESTAMP")}

_FIRST_DAY, _DAY_AFTER_LAST = "TIMESTAMP '1400-01-01'", "TIMESTAMP '10000-01-01'"
_LENGTH_COMMENT = re.compile(r"VARCHAR\((\d+)\)")


@dataclass(frozen=True)
class TargetColumn:
    """A column of a target table.

    Attributes:
        name: Name, as the table spells it.
        duckdb_type: Type in DuckDB.
        length: Number of characters that a VARCHAR keeps; None for no limit.
        refuses_longer: Whether a longer string fails the job instead of being cut.
    """

    name: str
    duckdb_type: str
    length: int | None = None
    refuses_longer: bool = False

    @property
    def comment(self) -> str | None:
        """The column comment that stores the length; None without a length."""
        return None if self.length is None else f"VARCHAR({self.length})"


def comment_of_table(columns: Sequence[TargetColumn]) -> str:
    """Return the comment of a table that stores the lengths of all its columns, as JSON: `{"NAME": 80}`."""
    return json.dumps({column.name: column.length for column in columns if column.length is not None})


def lengths_of_comment(comment: str | None) -> dict[str, int]:
    """Return the lengths that the comment of a table stores, by column; none if it is any other text."""
    try:
        lengths = json.loads(comment or "")
    except (ValueError, RecursionError):
        return {}
    return (
        {name: length for name, length in lengths.items() if isinstance(length, int)}
        if isinstance(lengths, dict)
        else {}
    )


def length_of_comment(comment: str | None) -> int | None:
    """Return the length that a column was declared with, parsed from its comment; None without one."""
    match = _LENGTH_COMMENT.fullmatch(comment or "")
    return int(match[1]) if match else None


def quote(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Quote a text as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


def declared_columns(columns: Sequence[FileColumn], spec: JobSpec, default_length: int) -> list[TargetColumn]:
    """Return the columns that a job declares for its table, in the order of the file."""
    schema = {column.name.casefold(): column for column in spec.schema or ()}
    fallback = spec.fallback_varchar_length or default_length
    targets = []
    for column in columns:
        declared = schema.get(column.name.casefold())
        column_type = declared.type if declared else column.type
        length = (declared.field_length if declared else None) or fallback
        targets.append(
            TargetColumn(
                name=declared.name if declared else column.name,
                duckdb_type=DUCKDB_TYPES[column_type],
                length=length if column_type is ColumnType.STRING else None,
            )
        )
    return targets


def parquet_expression(source: str, duckdb_type: str, target: TargetColumn) -> str:
    """Return the SQL expression that converts a Parquet column to its target column; `duckdb_type` is as DuckDB reads the file."""
    if duckdb_type == "TIMESTAMP":
        source = _within_calendar(source)
    elif duckdb_type.startswith("TIMESTAMP"):
        # Convert via microseconds, because INT64 timestamps can have other units and a time zone.
        source = _within_calendar(_finite(source, f"make_timestamp(epoch_us({source}))"))
    return _cast(source, target)


def csv_expression(source: str, column_name: str, target: TargetColumn, options: CsvOptions) -> str:
    """Return the SQL expression that converts the text of a CSV column to its target column.

    Raises:
        ValueError: The date format is not supported.
    """
    own = options.columns.get(column_name.casefold(), {})
    if target.duckdb_type == "VARCHAR":
        return _cast(source, target)
    text = f"nullif(trim({source}), '')"
    if target.duckdb_type in {"BIGINT", "DOUBLE"}:
        thousands = own.get("thousandsSeparator", options.thousand_separator)
        decimal = own.get("decimalSeparator", options.decimal_separator)
        number = _plain_number(text, thousands, decimal)
        return _integer(number, column_name) if target.duckdb_type == "BIGINT" else _cast(number, target)
    date_format = own.get("dateFormat", options.date_format)
    if target.duckdb_type == "TIMESTAMP":
        return _within_calendar(_timestamp(text, date_format) if date_format else f"CAST({text} AS TIMESTAMP)")
    if target.duckdb_type == "DATE" and date_format:
        return f"coalesce(CAST({_timestamp(text, date_format, lenient=True)} AS DATE), CAST({text} AS DATE))"
    return _cast(text, target)


def _cast(value: str, target: TargetColumn) -> str:
    if target.length is not None:
        value = _too_long_fails(value, target) if target.refuses_longer else f"left({value}, {target.length})"
    else:
        value = f"CAST({value} AS {target.duckdb_type})"
    can_pass_ceiling = target.duckdb_type == "VARCHAR" and (target.length is None or target.length > MAX_FIELD_LENGTH)
    return _within_ceiling(value) if can_pass_ceiling else value


def _within_ceiling(text: str) -> str:
    """Return SQL that cuts a string to the most whole characters that 65,000 bytes hold.

    The first 65,001 bytes, as hexadecimal digits, lose their last character, which the cut goes through or which begins after it.
    """
    digits = f"regexp_replace(left(hex({text}), {2 * (MAX_VARCHAR_BYTES + 1)}), '[0-7C-F].([89AB].)*$', '')"
    return f"CASE WHEN strlen({text}) > {MAX_VARCHAR_BYTES} THEN decode(unhex({digits})) ELSE {text} END"


def _too_long_fails(value: str, target: TargetColumn) -> str:
    message = literal(f"Column '{target.name}' holds {target.length} characters; a value is longer.")
    return f"CASE WHEN length({value}) > {target.length} THEN CAST(error({message}) AS VARCHAR) ELSE {value} END"


def _within_calendar(timestamp: str) -> str:
    """Return SQL that turns timestamps outside the years 1400 to 9999 into NULL, as the platform does."""
    return f"CASE WHEN {timestamp} >= {_FIRST_DAY} AND {timestamp} < {_DAY_AFTER_LAST} THEN {timestamp} END"


def _finite(source: str, timestamp: str) -> str:
    """Return SQL for a timestamp that also reads the two that DuckDB takes for infinity: those with the largest number of nanoseconds.

    In other units, these are outside of the calendar.
    """
    is_nanos = f"typeof({source}) = 'TIMESTAMP_NS'"
    # Cut to microseconds, as all others are.
    first, last = "TIMESTAMP '1677-09-21 00:12:43.145224'", "TIMESTAMP '2262-04-11 23:47:16.854775'"
    infinite = f"CASE WHEN {source} > TIMESTAMP '2000-01-01' THEN {last} ELSE {first} END"
    return f"CASE WHEN NOT isinf({source}) THEN {timestamp} WHEN {is_nanos} THEN {infinite} END"


def _plain_number(text: str, thousands: str, decimal: str) -> str:
    if thousands:
        text = f"replace({text}, {literal(thousands)}, '')"
    return text if decimal == "." else f"replace({text}, {literal(decimal)}, '.')"


def _integer(number: str, column_name: str) -> str:
    """Return a cast to BIGINT that rejects fractions instead of rounding them."""
    message = literal(f"Column '{column_name}' cannot be read as INTEGER: ")
    return (
        f"CASE WHEN {number} IS NULL OR regexp_full_match({number}, '[+-]?[0-9]+') THEN CAST({number} AS BIGINT) "
        f"ELSE CAST(error({message} || {number}) AS BIGINT) END"
    )


def _timestamp(text: str, java_pattern: str, *, lenient: bool = False) -> str:
    function = "try_strptime" if lenient else "strptime"
    pattern = strptime_format(java_pattern)
    if "%z" in pattern:
        text = f"regexp_replace({text}, '[zZ]$', '+00:00')"
    return f"make_timestamp(epoch_us({function}({text}, {literal(pattern)})))"
