"""CSV chunks: a header row, then rows of text, parsed with the job's `csvParsingOptions`.

An empty field is NULL; a quoted empty field is an empty string. A quote inside a quoted field is doubled; if the escape
sequence is not the quote character itself, it can escape a quote too. Column types come from the job's table schema;
without a schema, every column is STRING. Date formats are Java patterns.
"""

import codecs
import contextlib
import io
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
        mark = _mark(options)
        last_value = None
        with _Marked(path, options, mark, len(names)) as file, _open_text(file, options, names) as reader:
            for batch in reader:
                if batch.num_rows:
                    last_value = batch.column(0)[-1].as_py()
                _refuse_null_keys(batch, key_indexes)
    except (pa.ArrowException, OSError, ValueError) as exc:
        raise invalid_file(f"The CSV file cannot be parsed: {exc}") from exc
    if last_value != mark:
        raise invalid_file("The CSV file ends inside of a quoted value.")
    return tuple(FileColumn(name, ColumnType.STRING) for name in names)


@contextlib.contextmanager
def open_csv(path: Path, options: CsvOptions) -> Iterator[Any]:
    """Open a CSV file as a reader of record batches in which every column is text."""
    with _open_text(path, options, _header(path, options)) as reader:
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


def _open_text(file: Any, options: CsvOptions, names: list[str]) -> Any:
    convert = pc.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        null_values=[""],
        strings_can_be_null=True,
        quoted_strings_can_be_null=False,
    )
    return _open(file, options, convert, skips_empty_lines=len(names) > 1)


def _open(file: Any, options: CsvOptions, convert: Any, *, skips_empty_lines: bool) -> Any:
    return pc.open_csv(
        file,
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


def _mark(options: CsvOptions) -> str:
    """Return a value that no option of the job gives a meaning."""
    special = options.separator + options.quote + options.escape
    return next(letter for letter in "wxyz" if letter not in special) * 32


class _Marked(io.RawIOBase):
    """A CSV file with one more row, whose values are all `mark`: the parser does not report a quote that is never closed.

    If the last row that it finds is another one, the mark became part of a quoted value.
    """

    def __init__(self, path: Path, options: CsvOptions, mark: str, width: int) -> None:
        super().__init__()
        self._file = path.open("rb")
        codec = _codec_of(self._file.read(4), options.charset)
        newline, end = "\n".encode(codec), "\r".encode(codec)
        self._file.seek(-min(len(newline), path.stat().st_size), io.SEEK_END)
        last = self._file.read()
        self._file.seek(0)
        row = options.separator.join([mark] * width).encode(codec)
        self._rest = row if last in {newline, end} else newline + row

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size)
        if not data:
            data, self._rest = self._rest, b""
        return data


def _codec_of(start: bytes, charset: str) -> str:
    """Return the codec that continues a text, without another byte order mark."""
    name = codecs.lookup(charset).name
    if name not in {"utf-16", "utf-32"}:
        return name
    is_big = start.startswith((b"\xfe\xff", b"\x00\x00\xfe\xff"))
    return f"{name}-{'be' if is_big else 'le'}"


def _refuse_null_keys(batch: Any, key_indexes: list[int]) -> None:
    for index in key_indexes:
        if batch.column(index).null_count:
            raise invalid_file(f"The key column '{batch.schema.names[index]}' contains nulls.")
