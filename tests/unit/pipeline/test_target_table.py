"""What is known of a table before a push, what it needs the platform for, and what a push leaves behind."""

import contextlib
import dataclasses

import pytest
from support.contexts import push_context
from support.journals import InlineJournal

from pushengine.errors import (
    AuthenticationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    RetriesExhaustedError,
    ServerError,
    TableChangedError,
    UnexpectedResponseError,
)
from pushengine.journal.facts import FactRow, SubmitIntended
from pushengine.journal.state import PushState
from pushengine.journal.store import JournalFile
from pushengine.journal.tables import RememberedTable, TableKey
from pushengine.model import TableColumn, Target
from pushengine.pipeline.retry import RetryPolicy
from pushengine.pipeline.target_table import UNREADABLE, UNREADABLE_TABLE, TargetTable
from pushengine.runtime.clock import SystemClock
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.testing import MemoryDestination

KEY = TableKey.of("acme", "pool", None, "T")
REMEMBERED = KnownTable("T", (KnownColumn("a", "INTEGER", None, "text_integer"),), version=1)


class Platform(MemoryDestination):
    """Lists these columns, or raises the next of these errors."""

    def __init__(self, columns=(), errors=()):
        super().__init__()
        self.listed, self.errors = list(columns), list(errors)

    def columns(self, table, connection_id):
        if self.errors:
            raise self.errors.pop(0)
        return self.listed


@pytest.fixture
def journal(tmp_path):
    opened = InlineJournal(JournalFile(tmp_path / "journal.sqlite3"))
    with contextlib.closing(opened.file):
        yield opened


@pytest.fixture
def context(journal):
    """Return a function that returns the context of a push into table T."""

    def make(platform=None, mode="append", remembers=REMEMBERED, said=None):
        if remembers is not None:
            with journal.file.transaction():
                journal.file.tables.put(KEY, RememberedTable(remembers))
        made = push_context(
            platform or Platform(),
            SystemClock(),
            target=Target("T", mode=mode),
            policy=RetryPolicy(max_attempts=20, first_wait_seconds=0.0),
        )
        shared = dataclasses.replace(made.shared, journal=journal, said=set() if said is None else said)
        return dataclasses.replace(made, shared=shared)

    return make


# --- Before the push


async def test_nothing_is_known_of_a_table_that_nobody_has_loaded(context):
    assert await TargetTable(context(remembers=None)).known() is None


async def test_a_replace_does_not_ask_the_platform(context):
    platform = Platform([TableColumn("a", "FLOAT")])
    assert await TargetTable(context(platform, "replace")).known() == REMEMBERED
    assert platform.calls == []


@pytest.mark.parametrize("mode", ["append", "upsert", "delete"])
async def test_the_columns_of_the_platform_win_in_every_delta(context, mode):
    platform = Platform([TableColumn("a", "FLOAT"), TableColumn("b", "STRING", 20)])
    known = await TargetTable(context(platform, mode)).known()
    assert known.columns == (KnownColumn("a", "FLOAT"), KnownColumn("b", "STRING", 20))
    assert (known.origin, known.version) == ("platform", 1)


async def test_a_table_that_only_the_platform_knows_is_known(context):
    known = await TargetTable(context(Platform([TableColumn("a", "FLOAT")]), remembers=None)).known()
    assert (known.name, known.columns) == ("T", (KnownColumn("a", "FLOAT"),))


async def test_a_table_that_the_platform_does_not_list_is_as_remembered(context):
    table = TargetTable(context(Platform([])))
    assert await table.known() == REMEMBERED
    assert table.notes == ()


@pytest.mark.parametrize(
    "error",
    [
        AuthenticationError("no", status=401),
        PermissionDeniedError("no", status=403),
        InvalidRequestError("no", status=405),
        UnexpectedResponseError("a login page", status=200),
    ],
    ids=lambda error: str(error.status),
)
async def test_a_platform_that_does_not_let_us_read_is_asked_once_and_named_once(context, error):
    platform, said = Platform(errors=[error]), set()
    first = TargetTable(context(platform, said=said))
    assert await first.known() == REMEMBERED
    assert first.notes == (UNREADABLE,)
    second = TargetTable(context(platform, said=said))
    assert await second.known() == REMEMBERED
    assert second.notes == ()
    assert platform.calls == ["columns"]


async def test_a_table_that_the_platform_does_not_know_says_nothing_of_other_tables(context):
    not_found, said = NotFoundError("no", status=404), set()
    platform = Platform([TableColumn("a", "FLOAT")], [not_found, not_found])
    first, second, third = (TargetTable(context(platform, said=said)) for _ in range(3))
    assert await first.known() == REMEMBERED
    assert first.notes == (UNREADABLE_TABLE,)
    assert await second.known() == REMEMBERED
    assert second.notes == ()
    assert (await third.known()).columns == (KnownColumn("a", "FLOAT"),)
    assert platform.calls == ["columns"] * 3


async def test_a_server_error_is_retried(context):
    platform = Platform([TableColumn("a", "FLOAT")], [ServerError("later", status=503)] * 3)
    table = TargetTable(context(platform))
    assert (await table.known()).columns == (KnownColumn("a", "FLOAT"),)
    assert platform.calls == ["columns"] * 4
    assert table.notes == ()


async def test_a_platform_that_stays_out_of_order_fails_the_push(context):
    platform, said = Platform(errors=[ServerError("later", status=503)] * 9), set()
    with pytest.raises(RetriesExhaustedError):
        await TargetTable(context(platform, said=said)).known()
    assert platform.calls == ["columns"] * 5
    assert said == set()


async def test_a_refusal_of_another_kind_fails_the_push(context):
    with pytest.raises(InvalidRequestError):
        await TargetTable(context(Platform(errors=[InvalidRequestError("no", status=400)]))).known()


@pytest.mark.parametrize("mode", ["replace", "append"])
async def test_a_doubt_is_told(context, mode):
    table = TargetTable(context(mode=mode, remembers=dataclasses.replace(REMEMBERED, doubt="push-7")))
    await table.known()
    (note,) = table.notes
    assert "push-7" in note


# --- Before the submit


def planned(context, columns, *, version=1, missing=()):
    """Let the push be planned with these columns, when the table had this version."""
    state = PushState(
        schema={"columns": [[name, kind, "", length] for name, kind, length in columns], "is_missing": list(missing)},
        known=None if version is None else REMEMBERED.to_dict() | {"version": version},
    )
    context.log._history.state = state
    return TargetTable(context)


async def test_a_table_that_nobody_changed_is_unchanged(context):
    await planned(context(), [("a", "FLOAT", None)]).require_unchanged()  # the platform may have said so


async def test_a_change_that_does_not_touch_the_columns_of_the_push_is_no_change(context):
    changed = KnownTable("T", (*REMEMBERED.columns, KnownColumn("new", "FLOAT")), version=2)
    await planned(context(remembers=changed), [("A", "INTEGER", None)]).require_unchanged()


@pytest.mark.parametrize(
    "column",
    [KnownColumn("a", "FLOAT"), KnownColumn("b", "INTEGER")],
    ids=["another type", "gone"],
)
@pytest.mark.parametrize("version", [1, None], ids=["known table", "table that was new"])
async def test_a_column_that_another_push_changed_makes_the_push_start_again(context, column, version):
    table = planned(context(remembers=KnownTable("T", (column,), version=2)), [("a", "INTEGER", None)], version=version)
    with pytest.raises(TableChangedError, match="column a of table T was changed by another push"):
        await table.require_unchanged()


async def test_a_shorter_column_is_a_change(context):
    shorter = KnownTable("T", (KnownColumn("a", "STRING", 40),), version=2)
    with pytest.raises(TableChangedError):
        await planned(context(remembers=shorter), [("a", "STRING", 80)]).require_unchanged()


async def test_a_column_that_is_sent_as_null_and_is_gone_from_the_table_is_a_change(context):
    changed = KnownTable("T", (KnownColumn("a", "INTEGER"),), version=2)
    table = planned(context(remembers=changed), [("a", "INTEGER", None), ("b", "FLOAT", None)], missing=["b"])
    with pytest.raises(TableChangedError, match="column b"):
        await table.require_unchanged()


async def test_a_replace_suits_any_table(context):
    changed = KnownTable("T", (KnownColumn("x", "FLOAT"),), version=2)
    await planned(context(mode="replace", remembers=changed), [("a", "INTEGER", None)]).require_unchanged()


# --- Afterwards


async def test_a_push_that_was_never_submitted_is_not_remembered(context, journal):
    table = TargetTable(context(remembers=None))
    with journal.file.transaction():
        table.remember(journal.file, 1.0)
        journal.file.append(FactRow.of("p", 1.0, SubmitIntended(job_id="j")))
    assert journal.file.tables.all() == {}
