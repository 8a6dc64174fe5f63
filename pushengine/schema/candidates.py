"""The conversions that are possible for one column, narrowed down by its values.

A candidate is a conversion together with the column type that it results in. The list is in order of preference, and the first candidate
that survives all values wins:

    new column                    the conversions of the source type, the best first
    column of a table that exists
      append, upsert              only those that result in the table's type: it never changes
      replace                     those that result in the table's type, then wider types: INTEGER, FLOAT, STRING
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pyarrow as pa

from pushengine.model import ColumnType
from pushengine.schema.base import NANOS, Conversion, is_string
from pushengine.schema.columns import FixedBy
from pushengine.schema.conversions import (
    NO_VALUES,
    TEXT,
    conversion_named,
    conversions_of,
    forced_conversions,
    has_zone,
    is_zone_known,
    is_zoned,
    key_conversions,
    text_conversion,
)
from pushengine.schema.formats import ValueFormats
from pushengine.schema.known import KnownColumn
from pushengine.schema.rules import RequestedType
from pushengine.schema.times.stamps import is_stamp

_WIDER: dict[ColumnType, tuple[ColumnType, ...]] = {"INTEGER": ("FLOAT", "STRING"), "STRING": ()}
"""The types that hold all values of a type. Every other type widens to STRING only."""


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """A possible conversion, and the column type that it results in (for DATE it differs from the conversion's own)."""

    conversion: Conversion
    type: ColumnType


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ColumnRules:
    """What is known of a column before its values are seen.

    Attributes:
        requested: Type that the user requests; None means to infer it.
        known: The column as the table has it; None if the column or the table is new.
        fixed_by: Why the column keeps the type of `known`; empty if it may change.
        is_key: Whether the column is part of the key.
        sends_longer: Whether strings may be longer than the column of the table.
        formats: How values of the column are spelled in text.
    """

    requested: RequestedType | None = None
    known: KnownColumn | None = None
    fixed_by: FixedBy = ""
    is_key: bool = False
    sends_longer: bool = False
    formats: ValueFormats = dataclasses.field(default_factory=ValueFormats)

    @property
    def is_fixed(self) -> bool:
        """Whether the column keeps the type of `known`."""
        return bool(self.fixed_by)


def _remembered(known: KnownColumn, formats: ValueFormats) -> Conversion | None:
    """Return the conversion that the last values of a column went through, if it keeps every value and no setting now contradicts it."""
    found = conversion_named(known.conversion)
    if found is None or found.type != known.type or not is_zone_known(known.conversion):
        return None
    is_lossy = (
        found.name.startswith(("forced_integer", "forced_float")) or "zero=" in found.name or "subsecond=" in found.name
    )
    if is_lossy or found.arrow_type == NANOS:
        return None
    is_given = formats.has_numbers if found.type in ("INTEGER", "FLOAT") else bool(formats.date_formats)
    return None if is_given and "@" in found.name else found


def candidates(arrow_type: pa.DataType, rules: ColumnRules, *, is_text: bool) -> list[Candidate]:
    """Return the candidates for a column of this type; empty if there is no way to send it.

    Args:
        arrow_type: Type of the column in the source, decoded.
        rules: What is known of the column.
        is_text: Whether the source is text, whose types are inferred.
    """
    if rules.requested is not None:
        kind = rules.requested.type
        return [Candidate(one, kind) for one in forced_conversions(arrow_type, kind, rules.formats)]
    find = key_conversions if rules.is_key else conversions_of
    natural = find(arrow_type, is_text=is_text, formats=rules.formats)
    if rules.known is None:
        return [Candidate(one, one.type) for one in natural]
    same = _same_type(arrow_type, rules, rules.known, natural, is_text=is_text)
    if rules.is_key and rules.known.type == "FLOAT":
        same = []
    elif natural and not same:
        same.append(Candidate(NO_VALUES[rules.known.type], rules.known.type))
    if rules.is_fixed:
        return same
    return [*same, *(one for one in _wider(arrow_type, rules.known.type, natural, is_text=is_text) if one not in same)]


def _same_type(
    arrow_type: pa.DataType, rules: ColumnRules, known: KnownColumn, natural: Sequence[Conversion], *, is_text: bool
) -> list[Candidate]:
    """Return the candidates that keep the table's type."""
    kind = known.type
    if is_stamp(arrow_type) and rules.is_fixed and is_zone_known(known.conversion):
        # As for text: the table holds either instants in UTC or local times.
        natural = natural if has_zone(arrow_type, natural[0]) == is_zoned(known.conversion) else ()
    if pa.types.is_null(arrow_type):
        found: tuple[Conversion, ...] = forced_conversions(arrow_type, kind)
    elif is_text and is_string(arrow_type):
        found = _text_readings(arrow_type, rules, known, natural)
    elif kind == "DATE":
        found = forced_conversions(arrow_type, kind) if pa.types.is_date(arrow_type) else ()
    else:
        found = tuple(one for one in natural if one.type == kind) or _coercions(arrow_type, kind)
    return [Candidate(one, kind) for one in found]


def _text_readings(
    arrow_type: pa.DataType, rules: ColumnRules, known: KnownColumn, natural: Sequence[Conversion]
) -> tuple[Conversion, ...]:
    if known.type == "STRING":
        plain = text_conversion(natural)
        return () if plain is None else (plain,)
    if known.type in ("DATE", "TIME"):
        return forced_conversions(arrow_type, known.type, rules.formats)
    readings = [one for one in natural if one.type == known.type]
    if rules.is_fixed and known.type == "DATETIME" and is_zone_known(known.conversion):
        # The table holds either instants in UTC or local times: adding the other kind would guess a time zone.
        readings = [one for one in readings if is_zoned(one.name) == is_zoned(known.conversion)]
    remembered = _remembered(known, rules.formats)
    if remembered is None:
        return tuple(readings)
    # A format that an earlier push was given holds for the column until another is given; never for a key that it could make equal to another.
    is_given_before = "@" in remembered.name and not rules.is_key
    is_allowed = is_given_before or remembered in readings or remembered.name.startswith("forced_")
    return tuple(dict.fromkeys([*([remembered] if is_allowed else []), *readings]))


def _coercions(arrow_type: pa.DataType, kind: ColumnType) -> tuple[Conversion, ...]:
    """Return the conversions of typed values that the table's type holds exactly: integers as FLOAT, integers and decimals as STRING."""
    is_integer, is_decimal = pa.types.is_integer(arrow_type), pa.types.is_decimal(arrow_type)
    if (kind == "FLOAT" and (is_integer or is_decimal)) or (kind == "INTEGER" and is_decimal and arrow_type.scale <= 0):
        return forced_conversions(arrow_type, kind)
    return (TEXT,) if kind == "STRING" and (is_integer or is_decimal) else ()


def _wider(
    arrow_type: pa.DataType, kind: ColumnType, natural: Sequence[Conversion], *, is_text: bool
) -> list[Candidate]:
    """Return the candidates that a replaced table may change to, the narrowest first."""
    if not is_text and not pa.types.is_integer(arrow_type) and not pa.types.is_decimal(arrow_type):
        return [Candidate(one, one.type) for one in natural]  # the source says what it is
    wider = _WIDER.get(kind, ("STRING",))
    found = [Candidate(one, one.type) for one in natural if one.type in wider]
    if is_text or any(one.type == "STRING" for one in found):
        return found
    if kind == "STRING":
        return [Candidate(one, one.type) for one in natural]
    return [*found, *(Candidate(one, "STRING") for one in _coercions(arrow_type, "STRING"))]
