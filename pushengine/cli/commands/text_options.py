"""The options of `push` and `plan` that say how text files are written. Each has the name of a setting of `config.CsvSettings`."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import typer

_Repair = Literal["refuse", "rename", "drop"]
_LISTS = ("names", "null")
"""Options whose values may be joined with commas."""


def _option(kind: Any, text: str, *words: str, metavar: str | None = None) -> Any:
    return Annotated[kind | None, typer.Option(*words, metavar=metavar, help=text)]


TEXT_OPTIONS: Mapping[str, Any] = {
    "dialect": _option(
        Literal["sap-list", "excel", "hive"], "Preset: | lists of SAP, sep= lines of Excel, ^A of Hive."
    ),
    "delimiter": _option(
        str, r"Field delimiter, also several characters or \t; else as the header line shows.", metavar="TEXT"
    ),
    "encoding": _option(
        str, "Character encoding, such as cp1252; else UTF-8, or as a byte order mark says.", metavar="NAME"
    ),
    "quote": _option(str, "Quote character; none if there is none.", metavar="CHAR"),
    "escape": _option(str, "Character that makes the next one an ordinary one.", metavar="CHAR"),
    "skip_lines": _option(int, "Lines before the header line.", metavar="N"),
    "skip_footer": _option(int, "Lines at the end that are no rows.", metavar="N"),
    "comment": _option(str, "Text at the start of lines that are no rows.", metavar="TEXT"),
    "header": _option(bool, "Whether the first line holds the column names.", "--header/--no-header"),
    "names": _option(list[str], "Column names of files without a header line.", metavar="A,B,C"),
    "trim": _option(bool, "Cut blanks off the ends of names and unquoted values.", "--trim/--no-trim"),
    "nameless": _option(_Repair, "Columns without a name; renamed to column_3."),
    "duplicate_names": _option(_Repair, "Columns with the name of another; renamed to NAME_2."),
    "empty_columns": _option(_Repair, "Columns without a name and without any value."),
    "trailing_delimiter": _option(_Repair, "A delimiter at the end of every line."),
    "locale": _option(Literal["de", "sap"], "Preset: how numbers and dates are written."),
    "decimal": _option(Literal[".", ","], "Decimal sign of numbers."),
    "thousands": _option(str, "Separator between groups of three digits.", metavar="CHAR"),
    "date_format": _option(
        list[str], "Dates like dd.mm.yyyy or %Y%m%d; COL=FORMAT for one column; repeatable.", metavar="FORMAT"
    ),
    "null": _option(list[str], r"Unquoted words that are NULL: NULL,\N,N/A", metavar="WORDS"),
    "zero_date_null": _option(bool, "Dates of zeros (00000000) are NULL.", "--zero-date-null/--no-zero-date-null"),
    "subsecond": _option(Literal["refuse", "cut"], "Digits of a time beyond microseconds."),
}
"""Types and options by parameter name."""


def with_text_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, whose parameter `text` receives those that are given."""
    signature = inspect.signature(command, eval_str=True)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in TEXT_OPTIONS.items()
    ]
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        parameters += added if parameter.name == "text" else [parameter]

    @functools.wraps(command)
    def wrapper(*args: Any, **given: Any) -> None:
        text = {name: _value(name, given.pop(name)) for name in TEXT_OPTIONS if given.get(name) is not None}
        others = {name: value for name, value in given.items() if name not in TEXT_OPTIONS}
        command(*args, **others, text={name: value for name, value in text.items() if value != ()})

    wrapper.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    return wrapper


def _value(name: str, given: Any) -> Any:
    if not isinstance(given, Sequence) or isinstance(given, str):
        return given
    return tuple(part for word in given for part in (word.split(",") if name in _LISTS else [word]) if part)
