"""What the user of a push asks for besides its source and target."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Self

from pushengine.config.settings import EngineSettings, PushSettings
from pushengine.errors import ConfigError
from pushengine.model import Target
from pushengine.schema.rules import RequestedType, SchemaRules
from pushengine.text import shown_name, storable


class PushOptions(PushSettings, total=False):
    """What `PushEngine.push()` takes besides source and target: the settings that one push may override, and these.

    Attributes:
        column_types: Types by column name or pattern: `{"MATNR": "STRING(40)", "*_DATE": "STRING"}`. They override the inferred types.
        default_types: Types by column name, as far as the source has the columns. A value that does not fit unchanged is refused.
        rename: Column of the source -> its name in the table.
        select: The only columns to send; empty means all.
        exclude: Columns to leave out.
        allow_empty: Load a file of 0 bytes, no file, or a replace without rows; otherwise these are errors.
    """

    column_types: Mapping[str, str] | None
    default_types: Mapping[str, str] | None
    rename: Mapping[str, str] | None
    select: Sequence[str]
    exclude: Sequence[str]
    allow_empty: bool


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """Options of one push. Equal options belong to the same command; the drift policy and other settings do not.

    Attributes:
        column_types: Types by column name or pattern: `FLOAT`, `STRING(40)`.
        default_types: Types by column name, as far as the source has the columns. Unlike `column_types`, which win, they change no value:
            one that does not fit is refused.
        rename: Column of the source -> its name in the table.
        select: If not empty, the only columns to send.
        exclude: Columns to leave out.
        allow_empty: Whether a file of 0 bytes, no file, or a replace without rows is loaded and not refused.
    """

    column_types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)
    select: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    allow_empty: bool = False

    @classmethod
    def split(cls, options: PushOptions) -> tuple[Self, dict[str, Any]]:
        """Return the checked options, and the settings that the push overrides.

        Raises:
            ConfigError: There is no such type, or a list of names is a single string.
        """
        given: dict[str, Any] = dict(options)
        names = {field.name for field in dataclasses.fields(cls)}
        overrides = {name: value for name, value in given.items() if name not in names}
        for key in ("select", "exclude"):
            if isinstance(given.get(key), str):
                raise ConfigError(
                    f"{key} must be a list of column names, not a single string",
                    key=key,
                    hint=f'{key}=["{given[key]}"]',
                )
        found = cls.from_dict(given, given.get("column_types") or {})
        for types in (found.column_types, found.default_types):
            _parsed(types)
        return found, overrides

    def to_dict(self) -> dict[str, Any]:
        """Return the options that are set, without `column_types`, as JSON-compatible values."""
        raw = {
            "default_types": dict(self.default_types),
            "rename": dict(self.rename),
            "select": list(self.select),
            "exclude": list(self.exclude),
            "allow_empty": self.allow_empty,
        }
        return {key: value for key, value in raw.items() if value}

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any], column_types: Mapping[str, str]) -> Self:
        """Restore options from the result of `to_dict()`; those that only a newer version knows are ignored."""
        return cls(
            column_types=dict(column_types),
            default_types=dict(raw.get("default_types") or {}),
            rename=dict(raw.get("rename") or {}),
            select=tuple(raw.get("select") or ()),
            exclude=tuple(raw.get("exclude") or ()),
            allow_empty=bool(raw.get("allow_empty")),
        )


def _parsed(types: Mapping[str, str]) -> dict[str, RequestedType]:
    """Return the parsed types.

    Raises:
        ConfigError: There is no such type.
    """
    parsed = {}
    for name, text in types.items():
        try:
            parsed[name] = RequestedType.parse(text)
        except ValueError as error:
            raise ConfigError(f"column {name}: {error}", key="column_types") from None
    return parsed


def schema_rules(target: Target, options: LoadOptions, settings: EngineSettings) -> SchemaRules:
    """Return what decides the schema of a push besides the source and the table.

    Raises:
        ConfigError: There is no such type, or the new name of a column is not UTF-8 text.
    """
    for name in options.rename.values():
        if storable(name) != name:
            raise ConfigError(f"the column name {shown_name(name)} is not UTF-8 text", key="rename")
    return SchemaRules(
        mode=target.mode,
        keys=target.keys,
        order_by=target.duplicate_removal_column,
        column_types=_parsed(options.column_types),
        default_types=_parsed(options.default_types),
        rename=options.rename,
        select=options.select,
        exclude=options.exclude,
        allow_empty=options.allow_empty,
        new_columns=settings.effective_new_columns,
        missing_columns=settings.effective_missing_columns,
        types=settings.effective_types,
        verified_new_columns=settings.verified_new_columns,
        on_longer_string=settings.on_longer_string,
        min_string_length=settings.min_string_length,
        string_headroom=settings.string_headroom,
        formats=settings.csv.formats(),
        allows_rejects=settings.allows_rejects,
    )
