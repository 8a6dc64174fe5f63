"""What decides the schema of a push besides the values: the mode, what the user asks for, and the drift policy."""

from __future__ import annotations

import dataclasses
import fnmatch
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar, cast, get_args

from pushengine.model import ColumnType, LongerStrings, MissingColumns, Mode, NewColumns, TypeChanges, type_name
from pushengine.schema.formats import ValueFormats
from pushengine.text import spelled_like

T = TypeVar("T")

MAX_LENGTH = 16_250
"""Longest string, in characters. At 4 bytes each, this is the platform's limit of 65,000 bytes per value."""
_TYPE = re.compile(r"([A-Za-z]+)(?:\((\d+)\))?")


@dataclasses.dataclass(frozen=True, slots=True)
class RequestedType:
    """The type that the user requests for a column.

    Attributes:
        type: Column type on the platform.
        length: Length in characters of a STRING; None lets the values decide.
    """

    type: ColumnType
    length: int | None = None

    @classmethod
    def parse(cls, text: str) -> RequestedType:
        """Parse `FLOAT`, `string` or `STRING(40)`.

        Raises:
            ValueError: There is no such type, or the length is not between 1 and `MAX_LENGTH`; the message says which.
        """
        match = _TYPE.fullmatch(text.strip())
        kind = match[1].upper() if match else ""
        if match is None or kind not in get_args(ColumnType):
            raise ValueError(f"no such type {text!r}: use one of {', '.join(get_args(ColumnType))} or STRING(n)")
        if match[2] is None:
            return cls(cast("ColumnType", kind))
        if kind != "STRING":
            raise ValueError(f"{text!r}: only STRING has a length")
        length = int(match[2]) if len(match[2]) < 9 else 0  # noqa: PLR2004 - longer numbers are out of range anyway
        if not 1 <= length <= MAX_LENGTH:
            raise ValueError(f"{text!r}: the length must be between 1 and {MAX_LENGTH}")
        return cls("STRING", length)

    def __str__(self) -> str:
        return type_name(self.type, self.length)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SchemaRules:
    """Everything that decides the schema of a push besides the source and the table.

    Attributes:
        mode: How the rows change the table.
        keys: Key columns, as the user names them.
        order_by: Column by which the platform chooses among rows with equal keys; None if there is none.
        column_types: Requested types by column name or pattern (`AMOUNT_*`). A name wins over a pattern, a longer pattern over a shorter.
        default_types: Types of columns, as far as the source has them. Values must fit unchanged, as they must in a table that exists.
        rename: Column of the source -> its name in the table.
        select: If not empty, the only columns to send.
        exclude: Columns to leave out.
        allow_empty: Whether a source without columns is an empty one, and not an error.
        new_columns: What to do with columns that the table lacks.
        missing_columns: What to do if the source lacks columns of the table.
        types: Whether a replace may change column types and lengths.
        verified_new_columns: Whether the platform is known to add columns to a table that exists.
        on_longer_string: What append and upsert do with a string that is longer than its column.
        min_string_length: Smallest length that a new STRING column is declared with, characters.
        string_headroom: Declared length of a new STRING column, as a multiple of its longest value.
        formats: How values are spelled in text sources.
        allows_rejects: Whether rows that no schema under these rules can hold are left out.
    """

    mode: Mode = "replace"
    keys: tuple[str, ...] = ()
    order_by: str | None = None
    column_types: Mapping[str, RequestedType] = dataclasses.field(default_factory=dict)
    default_types: Mapping[str, RequestedType] = dataclasses.field(default_factory=dict)
    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_empty: bool = False
    new_columns: NewColumns = "add"
    missing_columns: MissingColumns = "null"
    types: TypeChanges = "widen"
    verified_new_columns: bool = False
    on_longer_string: LongerStrings = "refuse"
    min_string_length: int = 255
    string_headroom: float = 4.0
    formats: ValueFormats = dataclasses.field(default_factory=ValueFormats)
    allows_rejects: bool = False
    _patterns: tuple[str, ...] = dataclasses.field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Kept, because each column asks for them.
        object.__setattr__(self, "_patterns", tuple(filter(is_pattern, self.column_types)))

    @property
    def is_delta(self) -> bool:
        """Whether the rows go into the table as it is, whose column types then cannot change."""
        return self.mode != "replace"

    def spelled_like(self, names: Sequence[str]) -> SchemaRules:
        """Return the rules with the names of columns in the spelling that the source has for them (see `text.spelled_like`)."""

        def spelled(given: Iterable[str]) -> tuple[str, ...]:
            return spelled_like(given, names)

        def keyed(given: Mapping[str, T]) -> Mapping[str, T]:
            return dict(zip(spelled(given), given.values(), strict=True))

        dates = keyed(self.formats.column_date_formats)
        return dataclasses.replace(
            self,
            keys=spelled(self.keys),
            order_by=None if self.order_by is None else spelled([self.order_by])[0],
            column_types=keyed(self.column_types),
            default_types=keyed(self.default_types),
            rename=keyed(self.rename),
            select=spelled(self.select),
            exclude=spelled(self.exclude),
            formats=dataclasses.replace(self.formats, column_date_formats=dates),
        )

    def requested_type(self, *names: str) -> RequestedType | None:
        """Return the type that the user requests for a column, which may have several names; None to infer it."""
        for name in names:
            if name in self.column_types:
                return self.column_types[name]
        matching = [pattern for pattern in self._patterns if any(fnmatch.fnmatchcase(name, pattern) for name in names)]
        return self.column_types[max(matching, key=lambda pattern: len(pattern.strip("*?")))] if matching else None

    def default_type(self, *names: str) -> RequestedType | None:
        """Return the type that a file of columns has for a column, which may have several names; None if it has none."""
        return next((self.default_types[name] for name in names if name in self.default_types), None)


def is_pattern(name: str) -> bool:
    """Return whether the name of a requested type is a pattern over column names."""
    return "*" in name or "?" in name
