"""Compares the columns of a source with those of the table: which are new, missing, renamed or left out, and whether that is allowed."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

from pushengine.errors import SchemaError
from pushengine.model import RESERVED_NAMES, Mode, type_name
from pushengine.schema.columns import Column
from pushengine.schema.conversions import is_zone_known, is_zoned
from pushengine.schema.known import KnownColumn, KnownTable, had_no_values
from pushengine.schema.rules import SchemaRules, is_pattern
from pushengine.text import flag, name_key, shown_name, shown_names

_SHOWN_NAMES = 20


@dataclasses.dataclass(frozen=True, slots=True)
class MatchedColumn:
    """A column of the source that is sent.

    Attributes:
        source: Name in the source.
        name: Name in the table.
        known: The column as the table has it; None if the table is new or lacks it.
    """

    source: str
    name: str
    known: KnownColumn | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class ColumnMatch:
    """The columns of a source beside those of the table.

    Attributes:
        columns: Columns that are sent, in source order.
        keys: Key columns, as they are named in the table.
        ignored: Columns of the source that are not sent.
        left_out: Those of them that the drift policy leaves out, because the table lacks them.
        new: Columns that are sent although the table lacks them; empty if no table is known.
        missing: Columns of the table that the source lacks.
        dropped: Columns of the table that a replace drops, because the source is another table: they have no column in common.
    """

    columns: tuple[MatchedColumn, ...]
    keys: tuple[str, ...]
    ignored: frozenset[str]
    left_out: tuple[str, ...]
    new: tuple[str, ...]
    missing: tuple[KnownColumn, ...]
    dropped: tuple[str, ...] = ()

    @property
    def question(self) -> str:
        """The question whether a column was renamed, with the flag that says so; empty unless one is new and one is missing."""
        new = (*self.new, *self.left_out)
        if len(new) != 1 or len(self.missing) != 1:
            return ""
        gone = self.missing[0].name
        return f"was {shown_name(gone)} renamed to {shown_name(new[0])}? {flag('rename', f'{new[0]}={gone}')}"


class ColumnMatcher:
    """Matches the columns of one source with those of the table.

    Args:
        rules: The drift policy, and what the user asks for.
        known: The table; None if it is new or nothing is known of it.
        source: Name of the source, for messages.
    """

    def __init__(self, rules: SchemaRules, known: KnownTable | None, source: str) -> None:
        self._rules = rules
        self._known = known
        self._columns = {} if known is None else known.by_name()
        self._source = source

    def match(self, names: Sequence[str]) -> ColumnMatch:
        """Match the columns of the source.

        Raises:
            SchemaError: A name is empty, reserved or duplicated, or a key, rename, selection or requested type names no column.
        """
        if not names:
            return self._match_nothing()
        sent = self._sent(names)
        self._check_names([name for _, name in sent])
        keys = self._keys(sent)
        order_by = self._rules.order_by
        if order_by is not None and name_key(order_by) not in {name_key(name) for pair in sent for name in pair}:
            raise self._unknown("order column", order_by, [name for _, name in sent])
        if self._rules.mode == "delete":
            sent = [(source, name) for source, name in sent if name in keys]
        self._check_requested_types(sent, names)
        columns, left_out, new = [], [], []
        for source, name in sent:
            known = self._columns.get(name_key(name))
            if known is None and self._known is not None and self._rules.mode != "delete":
                if self._rules.new_columns == "ignore" and name not in keys:
                    left_out.append(name)
                    continue
                new.append(name)
            # A table that exists keeps its own spelling; a replaced one takes that of the source.
            spelled = known.name if known is not None and self._rules.is_delta else name
            columns.append(MatchedColumn(source, spelled, known))
        if not columns:
            raise self._error("no column is left to send", "check --select, --exclude and new_columns")
        spelling = {name_key(column.name): column.name for column in columns}
        missing = self._missing(spelling, names)
        is_another = self._rules.mode == "replace" and not any(column.known for column in columns)
        return ColumnMatch(
            columns=tuple(columns),
            keys=tuple(spelling[name_key(key)] for key in keys),
            ignored=frozenset(names) - {column.source for column in columns},
            left_out=tuple(left_out),
            new=tuple(new),
            missing=() if is_another and self._rules.missing_columns == "null" else missing,
            dropped=tuple(column.name for column in missing) if is_another else (),
        )

    def _match_nothing(self) -> ColumnMatch:
        """Match a source without columns, such as a file of 0 bytes."""
        if self._known is None and not self._rules.is_delta:
            raise self._error(
                "the source has no columns", "nothing is remembered of the table, so its columns are unknown"
            )
        if not self._rules.allow_empty:
            raise self._error("the source has no columns", "if that is right: --allow-empty")
        missing = () if self._rules.is_delta else self._missing({}, ())
        return ColumnMatch(columns=(), keys=(), ignored=frozenset(), left_out=(), new=(), missing=missing)

    def _error(self, message: str, hint: str = "") -> SchemaError:
        return SchemaError(message, source=self._source, hint=hint)

    def _sent(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """Return (name in the source, name in the table) of the columns that are selected."""
        rules = self._rules
        renamed = self._renamed(names)
        chosen, excluded = frozenset(rules.select), frozenset(rules.exclude)
        existing = {*names, *renamed.values()}
        for name in rules.select:
            if name not in existing:
                raise self._unknown("selected column", name, names)
        for name in rules.exclude:
            if name not in existing and name_key(name) not in self._columns:
                raise self._unknown("excluded column", name, names)
        pairs = [(source, renamed.get(source, source)) for source in names]
        return [
            (source, name)
            for source, name in pairs
            if (not chosen or source in chosen or name in chosen) and source not in excluded and name not in excluded
        ]

    def _renamed(self, names: Sequence[str]) -> Mapping[str, str]:
        """Return name in the source -> name in the table for the renamed columns.

        `OLD=NEW` is understood both ways round, because both are natural: a column of the source that is to be called NEW, or a column
        of the table that the source now calls NEW. In append and upsert, the table keeps its name then.
        """
        renamed = {}
        existing = frozenset(names)
        for old, new in self._rules.rename.items():
            if old in existing:
                renamed[old] = new
            elif new in existing and name_key(old) in self._columns:
                renamed[new] = old
            else:
                raise self._unknown("renamed column", old, names)
        return renamed

    def _check_names(self, names: Sequence[str]) -> None:
        seen: dict[str, str] = {}
        for number, name in enumerate(names, 1):
            folded = name_key(name)
            if not name.strip():
                raise self._error(f"column {number} has no name")
            if folded in RESERVED_NAMES:
                raise self._error(
                    f"column {shown_name(name)}: the platform adds a column of this name itself",
                    f"rename it, or leave it out: {flag('exclude', name)}",
                )
            if folded in seen:
                other = seen[folded]
                how = "letter case" if other.casefold() == name.casefold() else "the encoding of accents"
                message = (
                    f"column {shown_name(name)} appears twice"
                    if other == name
                    else f"columns {shown_name(other)} and {shown_name(name)} differ only in {how}"
                )
                raise self._error(message, "column names on the platform are case-insensitive")
            seen[folded] = name

    def _keys(self, sent: Sequence[tuple[str, str]]) -> tuple[str, ...]:
        """Return the key columns as they are named in the table."""
        by_source = dict(sent)
        names = [name for _, name in sent]
        keys = []
        for key in self._rules.keys:
            found = key if key in names else by_source.get(key)
            if found is None and name_key(key) in self._columns:  # as the table spells it
                found = next((name for name in names if name_key(name) == name_key(key)), None)
            if found is None:
                raise self._unknown("key", key, [*names, *by_source])
            keys.append(found)
        return tuple(keys)

    def _check_requested_types(self, sent: Sequence[tuple[str, str]], names: Sequence[str]) -> None:
        known = {name for pair in sent for name in pair} | set(names)
        for name in self._rules.column_types:
            if not is_pattern(name) and name not in known:
                raise self._unknown("typed column", name, names)

    def _unknown(self, role: str, name: str, names: Iterable[str]) -> SchemaError:
        known = list(dict.fromkeys(names))
        similar = [other for other in known if name_key(other) == name_key(name)]
        listed = shown_names(known[:_SHOWN_NAMES]) + (", …" if len(known) > _SHOWN_NAMES else "")
        hint = f"did you mean {shown_name(similar[0])}?" if similar else f"columns: {listed}"
        return self._error(f"{role} {shown_name(name)} is not a column of the source", hint)

    def _missing(self, spelling: Mapping[str, str], names: Sequence[str]) -> tuple[KnownColumn, ...]:
        if self._known is None or self._rules.mode == "delete":
            return ()
        # A replace drops the columns that the user leaves out; a delta cannot.
        dropped = set() if self._rules.is_delta else {name_key(name) for name in (*self._rules.exclude, *names)}
        return tuple(
            column
            for column in self._known.columns
            if name_key(column.name) not in spelling and name_key(column.name) not in dropped
        )

    # --- The policy

    def require_allowed(self, match: ColumnMatch) -> None:
        """Require that the drift policy allows the differences.

        Raises:
            SchemaError: It does not; the message names the columns, the hint the flags that help.
        """
        rules = self._rules
        table = self._known.name if self._known is not None else ""
        if rules.types == "refuse" and (keys := _changed_keys(match, self._known)):
            raise self._error(f"table {table} has other keys: {keys[0]}", "--types widen loads it with these keys")
        question = f"{match.question}; " if match.question else ""
        lacking = [key for key in match.keys if name_key(key) not in self._columns]
        if self._known is not None and rules.is_delta and lacking:
            names = shown_names(column.name for column in self._known.columns[:_SHOWN_NAMES])
            raise self._error(
                f"key {shown_name(lacking[0])} is not a column of table {table}",
                f"{question}columns of the table: {names}",
            )
        new = shown_names(match.new[:_SHOWN_NAMES])
        leave_out = " ".join(flag("exclude", name) for name in match.new[:_SHOWN_NAMES])
        if match.new and rules.new_columns == "refuse":
            can_add = not rules.is_delta or rules.verified_new_columns
            raise self._error(
                f"new in the source, not in table {table}: {new}",
                f"{question}new_columns is refuse: leave out ({leave_out}) or ignore (--new-columns ignore)"
                + (", or allow (--new-columns add)" if can_add else ""),
            )
        if match.new and rules.is_delta and not rules.verified_new_columns:
            raise self._error(
                f"new in the source, not in table {table}: {new}; whether the platform adds columns to a table that exists is not documented",
                f"{question}leave out ({leave_out}), ignore (--new-columns ignore), add by loading the whole table again (--mode replace),"
                " or set verified_new_columns = true if your platform adds them",
            )
        if match.missing and rules.missing_columns == "refuse":
            names = shown_names(column.name for column in match.missing[:_SHOWN_NAMES])
            raise self._error(
                f"in table {table}, not in the source: {names}",
                f"{question}missing_columns is refuse: load them as NULL with --missing-columns null",
            )


def describe_changes(
    match: ColumnMatch, columns: Sequence[Column], known: KnownTable | None, mode: Mode
) -> tuple[str, ...]:
    """Describe what differs between the table and the push; empty if nothing does or the table is new."""
    if known is None or mode == "delete":
        return _changed_keys(match, known)
    changes = [*_changed_keys(match, known), *_dropped(match, columns, known, mode)]
    also = ", also in rows that are updated" if mode == "upsert" else ""
    before_by_name = known.by_name()
    new = frozenset(match.new)
    for column in columns:
        before = before_by_name.get(name_key(column.name))
        if column.is_missing:
            # A column that the last replace lacked, too, is no difference from the table.
            if before is None or not had_no_values(before.conversion):
                changes.append(f"{column.name}: not in the source, NULL{also}")
        elif before is None:
            if column.name in new:
                changes.append(f"{column!r}: new column")
        else:
            changes += _changed_type(before, column, mode)
    return (*changes, *(f"{name}: not in the table, left out" for name in match.left_out))


def _changed_keys(match: ColumnMatch, known: KnownTable | None) -> tuple[str, ...]:
    """Describe keys that differ from those of earlier upserts: fewer keys make one row of several."""
    if known is None or not known.keys or not match.keys:
        return ()
    if {name_key(key) for key in known.keys} == {name_key(key) for key in match.keys}:
        return ()
    return (f"keys: {', '.join(known.keys)} -> {', '.join(match.keys)}",)


def _dropped(match: ColumnMatch, columns: Iterable[Column], known: KnownTable, mode: Mode) -> list[str]:
    """Describe the columns that a replace drops."""
    if mode != "replace":
        return []
    sent = {name_key(column.name) for column in columns}
    reason = "no column of the table is in the source" if match.dropped else "left out of this push"
    return [f"{column.name}: dropped, {reason}" for column in known.columns if name_key(column.name) not in sent]


def _changed_type(before: KnownColumn, column: Column, mode: Mode) -> list[str]:
    if (
        before.type == column.type
        and before.length is not None
        and before.length != column.length
        and mode != "replace"
    ):
        return [f"{column.name}: longer strings are sent than {before!r} holds; the platform may cut them"]
    if before.type != column.type or before.length not in (None, column.length):
        return [f"{before!r} -> {type_name(column.type, column.length)}"]
    is_known = is_zone_known(column.conversion) and is_zone_known(before.conversion)
    if column.type != "DATETIME" or not is_known or is_zoned(column.conversion) == is_zoned(before.conversion):
        return []
    kinds = ("instants in UTC", "local times")
    was, now = kinds if is_zoned(before.conversion) else reversed(kinds)
    if mode == "replace":
        return [f"{column.name}: {was} -> {now}"]
    return [f"{column.name}: {now}, into a column that holds {was}"]
