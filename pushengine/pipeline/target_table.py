"""The table that a push loads: what is known of it before the push, and what is remembered of it afterwards."""

from __future__ import annotations

import dataclasses

from pushengine.errors import ApiError, NotFoundError, TableChangedError, UnexpectedResponseError, is_wrong_address
from pushengine.journal.push_log import JOURNAL_IS_SLOW
from pushengine.journal.store import JournalFile
from pushengine.journal.tables import LoadedPush, TableKey
from pushengine.model import TableColumn
from pushengine.pipeline.context import PushContext
from pushengine.schema.known import KnownTable
from pushengine.text import name_key

UNREADABLE = "the platform does not let these credentials read the columns of tables: types are those of earlier pushes"
UNREADABLE_TABLE = "the platform does not list the columns of this table: types are those of earlier pushes"
_MAX_ATTEMPTS = 5
_UNREADABLE_STATUSES = frozenset({401, 403, 404, 405, 501})


class TargetTable:
    """The table of one push.

    Args:
        context: The push.

    Attributes:
        notes: What the user should know about the table.
    """

    def __init__(self, context: PushContext) -> None:
        self._context = context
        target = context.target
        self._key = TableKey.of(context.destination.team, context.shared.pool_id, target.connection_id, target.table)
        self.notes: tuple[str, ...] = ()

    async def known(self) -> KnownTable | None:
        """Return what is known of the table: what is remembered and, for rows that go into it as it is, what the platform reports.

        Raises:
            JournalError: The journal cannot be read.
            TransportError: The platform cannot be reached.
        """
        known = await self._remembered()
        if known is not None and known.doubt:
            self._note(
                f"the outcome of push {known.doubt} into this table is unknown, so what is remembered of the table may be wrong"
            )
        if self._context.target.mode == "replace":
            return known
        columns = await self._platform_columns()
        if not columns:
            return known
        return (known or KnownTable(self._context.target.table, ())).with_platform_columns(columns)

    async def _remembered(self) -> KnownTable | None:
        with self._context.announce_when_slow(JOURNAL_IS_SLOW):
            return await self._context.shared.journal.read(lambda file: file.known_table(self._key))

    async def _platform_columns(self) -> list[TableColumn]:
        context, target = self._context, self._context.target
        said = context.shared.said
        if UNREADABLE in said:
            return []

        async def attempt() -> list[TableColumn]:
            try:
                return await context.destination.table_columns(target.table, target.connection_id)
            except UnexpectedResponseError as error:  # a login page, say: another attempt does not change that
                if error.is_unsent and not is_wrong_address(error):  # it is from the token endpoint
                    raise
                raise error.replace(disposition="terminal") from error.__cause__

        try:
            return await context.repeat(
                attempt, f"reading the columns of table {target.table}", max_attempts=_MAX_ATTEMPTS
            )
        except ApiError as error:
            if error.is_unsent:
                raise
            if not isinstance(error, UnexpectedResponseError) and error.status not in _UNREADABLE_STATUSES:
                raise
            is_about_this_table = isinstance(error, NotFoundError)  # other tables may be readable
        if not is_about_this_table:
            said.add(UNREADABLE)
        if UNREADABLE_TABLE not in said:
            said.add(UNREADABLE_TABLE)
            self._note(UNREADABLE_TABLE if is_about_this_table else UNREADABLE)
        return []

    def _note(self, note: str) -> None:
        self.notes = (*self.notes, note)

    async def require_unchanged(self) -> None:
        """Require that the rows still suit the table: another push may have changed it since this one was planned.

        Raises:
            TableChangedError: Another push did, and a column that this push sends is another one now.
        """
        state, target = self._context.log.state, self._context.target
        if target.mode == "replace" or state.schema is None:
            return
        now = await self._remembered()
        if now is None or now.version == (state.known or {}).get("version", 0):
            return
        columns, sent = now.by_name(), state.schema["columns"]
        changed = [
            name
            for name, kind, _, length, *_ in sent
            if (column := columns.get(name_key(name))) is None or (column.type, column.length) != (kind, length)
        ]
        if target.mode != "delete":  # which sends only the keys
            names = {name_key(one[0]) for one in sent}
            left_out = {name_key(name) for name in state.schema.get("ignored", ())} - names
            changed += [columns[name].name for name in left_out if name in columns]
        if changed:
            raise TableChangedError(
                f"column {changed[0]} of table {target.table} was changed by another push since this one was planned",
                source=target.table,
            )

    def remember(self, file: JournalFile, at: float, *, is_unknown: bool = False) -> None:
        """Remember the push, which has ended. Called on the journal's thread, in the transaction of its last fact.

        Args:
            file: The journal.
            at: When it ended, seconds UTC.
            is_unknown: Whether it is unknown if its job ran.
        """
        state = self._context.log.state
        push = LoadedPush.of(self._context.push_id, at, 0, state, is_unknown=is_unknown)
        if push is not None:
            file.remember(self._key, dataclasses.replace(push, table=self._context.target.table), state.jobs[-1].job_id)
