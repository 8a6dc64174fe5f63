"""CSV chunks: a header row, then rows of text, parsed with the job's `csvParsingOptions`.

An empty field is NULL; a quoted empty field is an empty string. A quote inside a quoted field is doubled; if the escape
sequence is not the quote character itself, it can escape a quote too. Column types come from the job's table schema;
without a schema, every column is STRING. Date formats are Java patterns.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc

from pushengine.emulator.jobs.model import ColumnType, CsvOptions, FileColumn
from pushengine.emulator.refusals import invalid_file

_BLOCK_BYTES = 16 * 1024 * 1024

_JAVA_PATTERN = re.compile(r"'(?P<quoted>[^']*)'|(?P<letters>([A-Za-z])\3*)|(?P<other>.)", re.DOTALL)
_JAVA_LETTERS = {
    "yyyy": "%Y",
    "uuuu": "%Y",
    "yy": "%y",
    "MM": "%m",
    "M": "%-m",
    "dd": "%d",
    "d": "%-d",
    "HH": "%H",
    "H": "%-H",
    "hh": "%I",
    "mm": "%M",
    "ss": "%S",
    "S": "%g",
    "SS": "%g",
    "SSS": "%g",
    "SSSSSS": "%f",
    "SSSSSSSSS": "%n",
    "a": "%p",
    "X": "%z",
    "XX": "%z",
    "XXX": "%z",
    "Z": "%z",
}


def inspect_csv(path: Path, options: CsvOptions, keys: Sequence[str]) -> tuple[FileColumn, ...]:
    """Return the columns of a CSV file, after reading all rows once to check that they parse.

    Raises:
        Refusal: 400 that says what is wrong with the file.
    """
    folded_keys = {key.casefold() for key in keys}
    try:
        names = _header(path, options)
        key_indexes = [index for index, name in enumerate(names) if name.casefold() in folded_keys]
        with open_csv(path, options) as reader:
            for batch in reader:
                _refuse_null_keys(batch, key_indexes)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise invalid_file(f"The CSV file cannot be parsed: {exc}") from exc
    return tuple(FileColumn(name, ColumnType.STRING) for name in names)


@contextlib.contextmanager
def open_csv(path: Path, options: CsvOptions) -> Iterator[Any]:
    """Open a CSV file as a reader of record batches in which every column is text."""
    names = _header(path, options)
    convert = pc.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    with _open(path, options, convert, skips_empty_lines=len(names) > 1) as reader:
        yield reader


def strptime_format(java_pattern: str) -> str:
    """Return the strptime format of DuckDB that is equivalent to a Java date pattern.

    Raises:
        ValueError: A letter group of the pattern has no equivalent.
    """
    return "".join(_strptime_token(match) for match in _JAVA_PATTERN.finditer(java_pattern))


def _strptime_token(match: re.Match[str]) -> str:
    if match["letters"] is not None:
        try:
            return _JAVA_LETTERS[match["letters"]]
        except KeyError:
            raise ValueError(f"the date format letter '{match['letters']}' is not supported") from None
    literal: str = match["other"] or match["quoted"] or "'"
    return literal.replace("%", "%%")


def _header(path: Path, options: CsvOptions) -> list[str]:
    with _open(path, options, pc.ConvertOptions(), skips_empty_lines=False) as reader:
        names: list[str] = reader.schema.names
    return names


def _open(path: Path, options: CsvOptions, convert: Any, *, skips_empty_lines: bool) -> Any:
    return pc.open_csv(
        path,
        read_options=pc.ReadOptions(block_size=_BLOCK_BYTES, encoding=options.charset, use_threads=False),
        parse_options=pc.ParseOptions(
            delimiter=options.separator,
            quote_char=options.quote,
            double_quote=True,
            escape_char=False if options.escape == options.quote else options.escape,
            newlines_in_values=True,
            ignore_empty_lines=skips_empty_lines,
        ),
        convert_options=convert,
    )


def _refuse_null_keys(batch: Any, key_indexes: list[int]) -> None:
    for index in key_indexes:
        if batch.column(index).null_count:
            raise invalid_file(f"The key column '{batch.schema.names[index]}' contains nulls.")
