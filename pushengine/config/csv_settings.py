"""How text files are written: their structure and the spelling of their values.

Each setting has one name: in the `[csv]` table of the config file, as a flag (`skip_lines` is `--skip-lines`), and as an argument of
`PushEngine.push`. A setting that is not given is None (or empty): the file then shows it, or a default holds.

`dialect` and `locale` are presets: each stands for several settings, and a setting that is given beside it wins.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pushengine.schema.formats import DateFormat, ValueFormats
from pushengine.text import storable

Repair = Literal["refuse", "rename", "drop"]
"""What to do about columns that a header line does not name properly."""

Dialect = Literal["sap-list", "excel", "hive"]
Locale = Literal["de", "sap"]

NO_QUOTE = "none"
"""The word for an empty `quote`, which a command line would take for an unset shell variable."""
_ESCAPES = {"\\t": "\t", "tab": "\t", "space": " "}
_HEX = re.compile(r"\\x([0-9A-Fa-f]{2})")
_MAX_DELIMITER = 16


def _unescaped(value: Any) -> Any:
    r"""Return a delimiter that is given as `\t` or `\x01`, which a command line and a config file cannot show otherwise."""
    if not isinstance(value, str):
        return value
    return _ESCAPES.get(value) or _HEX.sub(lambda match: chr(int(match[1], 16)), value)


def _listed(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


_Words = Annotated[tuple[str, ...], BeforeValidator(_listed)]
_PRESETS: dict[str, dict[str, Any]] = {
    "sap-list": {"delimiter": "|", "quote": "", "trim": True},
    "excel": {"empty_columns": "drop", "trailing_delimiter": "drop"},
    "hive": {"delimiter": "\x01", "quote": "", "null": ("\\N",)},
    "de": {"decimal": ",", "thousands": ".", "date_format": ("dd.mm.yyyy",)},
    "sap": {"decimal": ".", "date_format": ("yyyymmdd",), "zero_date_null": True},
}


class CsvSettings(BaseModel):
    """How text files are written. The defaults read a plain CSV file whose header line shows the delimiter."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    dialect: Annotated[
        Dialect | None,
        Field(description="preset: | lists of SAP, Excel files with a sep= line, or ^A files of Hive"),
    ] = None
    delimiter: Annotated[
        str | None, BeforeValidator(_unescaped), Field(description="field delimiter; unset: as the header line shows")
    ] = None
    encoding: Annotated[
        str | None, Field(description="character encoding; unset: utf-8, or as a byte order mark says")
    ] = None
    quote: Annotated[
        str | None,
        BeforeValidator(lambda value: "" if value == NO_QUOTE else value),
        Field(description='quote character; unset: "; none or empty: quotes are ordinary characters'),
    ] = None
    escape: Annotated[
        str | None, Field(description="character that makes the next one an ordinary one; unset: none")
    ] = None
    skip_lines: Annotated[int | None, Field(ge=0, description="lines before the header line")] = None
    skip_footer: Annotated[int | None, Field(ge=0, description="lines at the end that are no rows")] = None
    comment: Annotated[str | None, Field(description="text at the start of lines that are no rows")] = None
    header: Annotated[
        bool | None,
        Field(
            description="whether the first line holds the column names; unset: yes, but one that looks like data is refused"
        ),
    ] = None
    names: Annotated[_Words, Field(description="column names, for a file without a header line")] = ()
    trim: Annotated[bool | None, Field(description="cut blanks off the ends of names and unquoted values")] = None
    nameless: Annotated[Repair | None, Field(description="columns without a name; renamed to column_3")] = None
    duplicate_names: Annotated[
        Repair | None, Field(description="columns with the name of another; renamed to NAME_2")
    ] = None
    empty_columns: Annotated[Repair | None, Field(description="columns without a name and without any value")] = None
    trailing_delimiter: Annotated[
        Repair | None, Field(description="a delimiter at the end of every line, after which there is nothing")
    ] = None
    locale: Annotated[Locale | None, Field(description="preset: how numbers and dates are written")] = None
    decimal: Annotated[Literal[".", ","] | None, Field(description="decimal sign of numbers; unset: a point")] = None
    thousands: Annotated[str | None, Field(description="separator between groups of three digits; unset: none")] = None
    date_format: Annotated[
        _Words,
        Field(description="formats of dates besides ISO 8601, such as dd.mm.yyyy or %Y%m%d; COL=FORMAT for one column"),
    ] = ()
    null: Annotated[_Words, Field(description="unquoted words that are NULL, besides an empty field")] = ()
    zero_date_null: Annotated[bool | None, Field(description="whether dates of zeros (00000000) are NULL")] = None
    subsecond: Annotated[Literal["refuse", "cut"] | None, Field(description="digits of a time beyond microseconds")] = (
        None
    )

    @field_validator("*")
    @classmethod
    def _check_text(cls, value: Any) -> Any:
        for word in value if isinstance(value, tuple) else (value,):
            if isinstance(word, str) and storable(word) != word:  # a byte of a command line that is not UTF-8
                raise PydanticCustomError("string_unicode", "Input should be UTF-8 text")
        return value

    @field_validator("delimiter", "quote", "escape", "comment", "thousands")
    @classmethod
    def _check_characters(cls, value: str | None) -> str | None:
        if value is not None and re.search(r"[\r\n\0]", value):
            raise PydanticCustomError("characters", "Input should not contain a line end or NUL")
        return value

    @field_validator("delimiter")
    @classmethod
    def _check_delimiter(cls, value: str | None) -> str | None:
        if value is not None and (not 1 <= len(value) <= _MAX_DELIMITER or '"' in value):
            raise PydanticCustomError(
                "delimiter",
                'Input should have 1 to {most} characters, none of them a quote (")',
                {"most": _MAX_DELIMITER},
            )
        return value

    @field_validator("quote", "escape", "thousands")
    @classmethod
    def _check_character(cls, value: str | None) -> str | None:
        if value and (len(value) != 1 or value.isalnum()):
            raise PydanticCustomError("character", "Input should be one character that is no letter or digit")
        return value

    @field_validator("quote", "escape")
    @classmethod
    def _check_ascii(cls, value: str | None) -> str | None:
        if value and not value.isascii():
            raise PydanticCustomError("ascii", "Input should be an ASCII character")
        return value

    @field_validator("encoding")
    @classmethod
    def _check_encoding(cls, value: str | None) -> str | None:
        is_known = True
        try:
            if value is not None:
                codecs.getincrementaldecoder(value)
                "".encode(value)
                is_known = codecs.lookup(value).name not in (
                    "idna",
                    "punycode",
                )  # for host names, with errors of their own
        except (LookupError, ValueError):
            is_known = False
        if not is_known:
            raise PydanticCustomError("encoding", "Input should be a known character encoding, such as cp1252")
        return value

    @field_validator("comment", "names", "null")
    @classmethod
    def _check_words(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        if value == "" or (isinstance(value, tuple) and "" in value):
            raise PydanticCustomError("words", "Input should not be an empty text")
        return value

    @field_validator("date_format")
    @classmethod
    def _check_date_format(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for word in value:
            try:
                DateFormat.parse(word.rpartition("=")[2])
            except ValueError as error:
                raise PydanticCustomError("date_format", "{reason}", {"reason": str(error)}) from None
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        filled = self.filled()
        marks = [mark for mark in (filled.delimiter, filled.quote_character, filled.escape) if mark]
        if len(set(marks)) < len(marks):
            raise PydanticCustomError("marks", "delimiter, quote and escape should differ")
        if filled.delimiter and any(mark in filled.delimiter for mark in marks[1:]):
            raise PydanticCustomError("marks", "delimiter should not contain the quote or escape character")
        if filled.comment and filled.quote_character and filled.comment.startswith(filled.quote_character):
            raise PydanticCustomError("marks", "comment should not begin with the quote character, as rows may")
        if filled.thousands and filled.thousands == (filled.decimal or "."):
            raise PydanticCustomError("marks", "decimal and thousands should differ")
        return self

    @property
    def quote_character(self) -> str:
        """The quote character; empty if quotes are ordinary characters."""
        return '"' if self.quote is None else self.quote

    @property
    def has_header(self) -> bool:
        """Whether the first line is taken as the header line. Names without a word on the header line mean that there is none."""
        return not self.names if self.header is None else self.header

    def filled(self) -> Self:
        """Return the settings with those of the presets, as far as they are not given."""
        values = self.given()
        for preset in (self.dialect, self.locale):
            values = {**_PRESETS.get(preset or "", {}), **values}
        return self.model_copy(update=values)

    def given(self) -> dict[str, Any]:
        """Return the settings that are given."""
        return {name: value for name, value in self if value not in (None, ())}

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that are given as JSON-compatible values."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in self.given().items()}

    def with_overrides(self, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of the settings with those that override them.

        A preset that overrides wins over the single settings that it stands for.
        """
        values = self.given()
        for preset in (overrides.get("dialect"), overrides.get("locale")):
            if preset:
                values = {name: value for name, value in values.items() if name not in _PRESETS.get(str(preset), {})}
        return {**values, **overrides}

    def formats(self) -> ValueFormats:
        """Return how values are spelled."""
        filled = self.filled()
        formats = [word.rpartition("=") for word in filled.date_format]
        by_column: dict[str, tuple[DateFormat, ...]] = {}
        for column, _, text in formats:
            if column:
                by_column[column] = (*by_column.get(column, ()), DateFormat.parse(text))
        return ValueFormats(
            decimal=filled.decimal or ".",
            thousands=filled.thousands or "",
            has_trailing_minus=filled.decimal is not None or filled.thousands is not None,
            date_formats=tuple(DateFormat.parse(text) for column, _, text in formats if not column),
            column_date_formats=by_column,
            null_words=filled.null,
            zero_date_null=bool(filled.zero_date_null),
            cuts_subseconds=filled.subsecond == "cut",
        )


def preset_settings(preset: object) -> tuple[str, ...]:
    """Return the names of the settings that a preset (`dialect` or `locale`) stands for; none for any other value."""
    return tuple(_PRESETS.get(preset, ())) if isinstance(preset, str) else ()


CSV_SETTINGS = tuple(CsvSettings.model_fields)
"""Names of the settings of text files."""
