"""Parsing of create requests: the fields that a client may set, and their validation."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from pushengine.emulator.jobs.model import (
    CHANGE_DATE_COLUMN,
    MAX_FIELD_LENGTH,
    MAX_VARCHAR_BYTES,
    ColumnType,
    CsvOptions,
    JobSpec,
    SchemaColumn,
    first_duplicate,
)
from pushengine.emulator.refusals import Refusal, invalid_field

_NULLIFICATION = "UPSERT_WITH_NULLIFICATION"
_UPSERT_STRATEGIES = ("UPSERT_WITH_UNCHANGED_METADATA", _NULLIFICATION)
_MAX_JSON_DEPTH = 100
_MAX_ID_LENGTH = 200

# Names of charsets in Java, and those of them that Python knows too. Python's codecs that no Java has, such as idna, are left out.
_CHARSET_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:_+-]{0,63}")
_CHARSETS = re.compile(
    r"ascii|utf-(8|(16|32)(-[lb]e)?)|iso8859-\d+|cp\d+|koi8-[ru]|tis-620|big5(hkscs)?|gb(2312|k|18030)|euc_(jp|kr)|johab"
    r"|shift_jis(x0213)?|iso2022_(jp(_2)?|kr)"
)


def parse_json(data: bytes) -> Any:
    """Parse the body of a create request.

    Raises:
        Refusal: 400 if it is not JSON as the API reads it: standard numbers, whole characters, and at most 100 levels deep.
    """
    try:
        body = json.loads(data, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise invalid_field("body", "is not valid JSON", "INVALID_BODY") from None
    level, depth = [body], 0
    while level:
        if any(isinstance(value, str) and not _is_whole(value) for value in level):
            raise invalid_field("body", "contains half of a surrogate pair", "INVALID_BODY")
        level = [inner for value in level if isinstance(value, (dict, list)) for inner in _contents(value)]
        depth += 1
        if depth > _MAX_JSON_DEPTH:
            raise invalid_field("body", f"is more than {_MAX_JSON_DEPTH} levels deep", "INVALID_BODY")
    return body


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _contents(value: dict[str, Any] | list[Any]) -> list[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else value


def parse_job(body: Any, pool_id: str, connection_ids: Collection[str] | None = None) -> JobSpec:
    """Parse the body of a create request; unknown keys are ignored, as on the platform.

    Args:
        body: The parsed JSON.
        pool_id: Id of the pool in the path.
        connection_ids: Ids of the data connections that exist; None if every well-formed id does.

    Raises:
        Refusal: 400 that names the first invalid field.
    """
    if not isinstance(body, dict):
        raise invalid_field("body", "must be a JSON object", "INVALID_BODY")
    if _text(body, "dataPoolId") not in {None, pool_id}:
        raise invalid_field("dataPoolId", "does not match the pool in the path", "INVALID_VALUE", pool_id)
    job_type = _choice(body, "type", ("REPLACE", "DELTA"))
    if job_type is None:
        raise invalid_field("type", "must not be null", "REQUIRED")
    strategy = _choice(body, "upsertStrategy", _UPSERT_STRATEGIES)
    return JobSpec(
        target_name=_target_name(body),
        type="DELTA" if job_type == "DELTA" else "REPLACE",
        file_type="CSV" if _choice(body, "fileType", ("PARQUET", "CSV")) == "CSV" else "PARQUET",
        connection_id=_connection_id(body, connection_ids),
        keys=_keys(body),
        schema=_table_schema(body),
        fallback_varchar_length=_whole_number(body, "fallbackVarcharLength", MAX_VARCHAR_BYTES),
        nullifies_absent_columns=strategy == _NULLIFICATION,
        allow_duplicate=bool(_typed(body, "allowDuplicate", bool, "true or false")),
        csv=_csv_options(body),
        raw=body,
    )


def _typed(body: Mapping[str, Any], name: str, kind: type, words: str, prefix: str = "") -> Any:
    """Return the value of a field, or None if it is absent or null; `words` describes the type in the error."""
    value = body.get(name)
    if value is not None and (not isinstance(value, kind) or (kind is int and isinstance(value, bool))):
        raise invalid_field(prefix + name, f"must be {words}", "INVALID_TYPE")
    return value


def _text(body: Mapping[str, Any], name: str, prefix: str = "") -> str | None:
    value: str | None = _typed(body, name, str, "a string", prefix)
    return value


def _option(options: Mapping[str, Any], name: str, prefix: str) -> str | None:
    """Return the text of a CSV option, which becomes part of patterns and SQL."""
    value = _text(options, name, prefix)
    if value is not None and "\x00" in value:
        raise invalid_field(prefix + name, "contains a NUL character", "INVALID_VALUE")
    return value


def _whole_number(body: Mapping[str, Any], name: str, maximum: int, prefix: str = "") -> int | None:
    value: int | None = _typed(body, name, int, "a whole number", prefix)
    if value is not None and not 1 <= value <= maximum:
        raise invalid_field(prefix + name, f"must be between 1 and {maximum}", "OUT_OF_RANGE")
    return value


def _choice(body: Mapping[str, Any], name: str, choices: tuple[str, ...]) -> str | None:
    value = _text(body, name)
    if value is not None and value not in choices:
        raise invalid_field(name, f"must be one of {', '.join(choices)}", "INVALID_ENUM_VALUE", value)
    return value


def _target_name(body: Mapping[str, Any]) -> str:
    name = _text(body, "targetName")
    if name is None or not name.strip():
        raise invalid_field("targetName", "must not be blank", "REQUIRED")
    if "\x00" in name:
        raise invalid_field("targetName", "contains a NUL character", "SPECIAL_CHAR_IN_TABLE_NAME")
    return name


def _connection_id(body: Mapping[str, Any], known: Collection[str] | None) -> str | None:
    """Return the id of the data connection; None for the global schema of the pool, as if it were absent or empty."""
    value = _text(body, "connectionId") or None
    if value is None:
        return None
    if not value.isprintable() or value != value.strip() or len(value) > _MAX_ID_LENGTH:
        raise invalid_field("connectionId", "is not the id of a data connection", "INVALID_VALUE")
    if known is not None and value not in known:
        raise invalid_field("connectionId", "is not a data connection of the pool", "NOT_FOUND", value)
    return value


def _keys(body: Mapping[str, Any]) -> tuple[str, ...]:
    keys = _typed(body, "keys", list, "a list of column names") or []
    if not all(isinstance(key, str) and key and "\x00" not in key for key in keys):
        raise invalid_field("keys", "must be a list of column names", "INVALID_TYPE")
    _refuse_duplicates("keys", keys)
    return tuple(keys)


def _table_schema(body: Mapping[str, Any]) -> tuple[SchemaColumn, ...] | None:
    schema = _typed(body, "tableSchema", dict, "an object")
    columns = None if schema is None else _typed(schema, "columns", list, "a list", "tableSchema.")
    if not columns:
        return None
    parsed = tuple(_schema_column(column, f"tableSchema.columns[{index}]") for index, column in enumerate(columns))
    _refuse_duplicates("tableSchema.columns", [column.name for column in parsed])
    return parsed


def _schema_column(column: Any, attribute: str) -> SchemaColumn:
    if not isinstance(column, dict):
        raise invalid_field(attribute, "must be an object", "INVALID_TYPE")
    prefix = f"{attribute}."
    name = _text(column, "columnName", prefix)
    if name is None or not name.strip():
        raise invalid_field(f"{prefix}columnName", "must not be blank", "REQUIRED")
    if "\x00" in name:
        raise invalid_field(f"{prefix}columnName", "contains a NUL character", "INVALID_VALUE")
    if name.casefold() == CHANGE_DATE_COLUMN.casefold():
        raise invalid_field(f"{prefix}columnName", "is added by the platform", "DUPLICATE_COLUMN_DETECTED", name)
    kind = _text(column, "columnType", prefix)
    if kind is None or kind not in ColumnType.__members__:
        raise invalid_field(
            f"{prefix}columnType", f"must be one of {', '.join(ColumnType)}", "INVALID_ENUM_VALUE", kind
        )
    length = _whole_number(column, "fieldLength", MAX_FIELD_LENGTH, prefix)
    return SchemaColumn(name, ColumnType(kind), length)


def _refuse_duplicates(attribute: str, names: list[str]) -> None:
    duplicate = first_duplicate(names)
    if duplicate is not None:
        raise invalid_field(attribute, f"contains '{duplicate}' twice", "DUPLICATE_COLUMN_DETECTED", duplicate)


def _csv_options(body: Mapping[str, Any]) -> CsvOptions:
    options = _typed(body, "csvParsingOptions", dict, "an object") or {}
    prefix = "csvParsingOptions."
    default = CsvOptions()
    parsed = CsvOptions(
        charset=_option(options, "charSet", prefix) or default.charset,
        separator=_one_character(options, "separatorSequence", default.separator),
        quote=_one_character(options, "quoteSequence", default.quote),
        escape=_one_character(options, "escapeSequence", default.escape),
        line_ending=_option(options, "lineEnding", prefix),
        decimal_separator=_option(options, "decimalSeparator", prefix) or default.decimal_separator,
        thousand_separator=_option(options, "thousandSeparator", prefix) or default.thousand_separator,
        date_format=_option(options, "dateFormat", prefix),
        columns=_column_options(options),
    )
    if parsed.line_ending not in {None, "\n", "\r\n", "\r"}:
        raise invalid_field(f"{prefix}lineEnding", "must be LF, CRLF or CR", "INVALID_VALUE", parsed.line_ending)
    _check_charset(parsed.charset)
    return parsed


def _one_character(options: Mapping[str, Any], name: str, default: str) -> str:
    value = _text(options, name, "csvParsingOptions.") or default
    if len(value) != 1 or not value.isascii() or value in "\r\n\x00":
        raise invalid_field(f"csvParsingOptions.{name}", "must be one ASCII character", "INVALID_VALUE", value)
    return value


def _check_charset(charset: str) -> None:
    """Check that a name is one of a charset in Java: the codecs of Python are more, and not all of them decode text."""
    try:
        is_known = _CHARSET_NAME.fullmatch(charset) and _CHARSETS.fullmatch(codecs.lookup(charset).name)
    except LookupError:
        is_known = None
    if not is_known:
        raise invalid_field("csvParsingOptions.charSet", "is unknown", "INVALID_VALUE", charset[:_MAX_ID_LENGTH])


def _column_options(options: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    prefix = "csvParsingOptions.additionalColumnOptions"
    entries = _typed(options, "additionalColumnOptions", list, "a list", "csvParsingOptions.") or []
    by_column: dict[str, dict[str, str]] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            raise _bad_column_options(prefix)
        name = _text(entry, "columnName", f"{prefix}.")
        if not name:
            raise _bad_column_options(prefix)
        # The platform spells this option "thousands" here, but "thousand" in the option for all columns.
        values = {
            key: _option(entry, key, f"{prefix}.") for key in ("dateFormat", "thousandsSeparator", "decimalSeparator")
        }
        by_column[name.casefold()] = {key: value for key, value in values.items() if value}
    return by_column


def _bad_column_options(attribute: str) -> Refusal:
    return invalid_field(attribute, "must be a list of objects with a columnName", "INVALID_TYPE")
