"""The memory of tables: what it holds depends on the order of the submits, survives the history, and includes what older versions loaded."""

import contextlib
import dataclasses
import itertools
import shutil
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pushengine.journal.facts import (
    ChunkAcked,
    ChunkSending,
    FactRow,
    JobCreated,
    PushFailed,
    PushFinished,
    PushPlanned,
    PushRow,
    SubmitAccepted,
    SubmitIntended,
    SubmitRefused,
    SubmitUnknown,
)
from pushengine.journal.reader import JournalReader
from pushengine.journal.store import JournalFile
from pushengine.journal.tables import LoadedPush, RememberedTable, TableKey, all_tables
from pushengine.schema.known import KnownColumn, KnownTable

RECORDED = Path(__file__).parents[2] / "recorded" / "data" / "state_format_1" / "folder"
KEY = TableKey.of("acme", "pool", None, "T")
TYPES = ("INTEGER", "FLOAT", "STRING")


def column(name, kind="INTEGER", length=None):
    return KnownColumn(name, kind, length or (255 if kind == "STRING" else None))


def loaded(seq, mode="append", columns=("A",), *, missing=(), keys=(), rows=1, is_unknown=False, table="T"):
    named = [one if isinstance(one, KnownColumn) else column(one) for one in columns]
    return LoadedPush(
        push_id=f"p{seq}",
        at=float(seq),
        seq=seq,
        table=table,
        mode=mode,
        keys=tuple(keys),
        columns=tuple((one, one.name not in missing) for one in named),
        rows=rows,
        is_unknown=is_unknown,
    )


def remembered(*pushes):
    table = RememberedTable.new("T")
    for push in pushes:
        table.apply(push)
    return table


def outline(table):
    """Return what a later push relies on; the order of the columns follows the order of the calls."""
    known = table.known
    columns = sorted((one.name, one.type, one.length) for one in known.columns)
    return columns, known.keys, known.rows, known.doubt


# --- The order of the submits


@st.composite
def pushes_of_one_table(draw):
    pushes = []
    for seq in range(1, draw(st.integers(2, 6)) + 1):
        mode = draw(st.sampled_from(["replace", "append", "upsert", "delete"]))
        names = draw(st.lists(st.sampled_from("ABCD"), min_size=1, unique=True))
        columns = [column(name, TYPES["ABCD".index(name) % 3]) for name in names]
        keys = [names[0]] if mode in ("upsert", "delete") else []
        unknown = draw(st.integers(0, 4)) == 0
        pushes.append(loaded(seq, mode, columns, keys=keys, rows=seq, is_unknown=unknown))
    first = draw(st.integers(0, len(pushes) - 2))
    return pushes, [*pushes[:first], pushes[first + 1], pushes[first], *pushes[first + 2 :]]


@given(pushes_of_one_table())
def test_two_pushes_at_once_are_remembered_in_the_order_of_their_submits_whichever_ends_first(drawn):
    submitted, ended = drawn
    assert outline(remembered(*ended)) == outline(remembered(*submitted))


def test_a_replace_decides_the_columns_and_a_delta_adds_its_own():
    table = remembered(loaded(1, "replace", "ABC", rows=7), loaded(2, "append", ["A", column("D", "STRING", 40)]))
    assert table.known.columns == (column("A"), column("B"), column("C"), column("D", "STRING", 40))
    assert table.known.rows == 7
    table.apply(loaded(3, "replace", "DA", rows=5))
    assert table.known.columns == (column("D"), column("A"))
    assert table.known.rows == 5


def test_a_delta_changes_no_type_and_no_length():
    table = remembered(loaded(1, "replace", [column("A", "STRING", 40)]))
    before = table.known
    for kind, length in (("INTEGER", None), ("STRING", 80), ("STRING", 20)):
        table.apply(loaded(2, "append", [column("A", kind, length)]))
        assert table.known == before


def test_a_delta_that_ends_after_a_replace_submitted_later_changes_nothing():
    table = remembered(loaded(1, "replace", "A"), loaded(3, "replace", "B"))
    before = table.known
    table.apply(loaded(2, "append", "AC"))
    assert table.known == before


def test_the_version_changes_exactly_when_columns_do():
    table = RememberedTable.new("T")
    versions = []
    for push in (
        loaded(1, "replace", "A"),
        loaded(2, "replace", "A"),
        loaded(3, "append", "A"),
        loaded(4, "append", "AB"),
        loaded(5, "delete", "A", keys="A"),
        loaded(6, "replace", "B"),
        loaded(7, "replace", [column("B", "STRING")]),
        loaded(8, "replace", [column("B", "STRING", 400)]),
    ):
        table.apply(push)
        versions.append(table.known.version)
    changes = [after > before for before, after in itertools.pairwise(versions)]
    assert changes == [False, False, True, False, True, True, True]


def test_the_table_keeps_its_own_spelling_until_it_is_replaced():
    table = remembered(loaded(1, "replace", ["Id"], table="Orders"), loaded(2, "append", ["ID"], table="ORDERS"))
    assert (table.known.name, table.known.columns) == ("Orders", (column("Id"),))
    table.apply(loaded(3, "replace", ["ID"], table="ORDERS"))
    assert (table.known.name, table.known.columns) == ("ORDERS", (column("ID"),))


def test_a_delta_says_how_a_column_is_read_only_if_nothing_did_before():
    def read(conversion):
        return dataclasses.replace(column("AT", "DATETIME"), conversion=conversion)

    zoned, naive = read("text_utc_us"), read("text_naive_us")
    for first in (read(""), read("no_values_datetime")):
        table = remembered(loaded(1, "replace", [first]))
        table.apply(loaded(2, "append", [naive], missing=["AT"]))
        assert table.known.columns == (first,)
        table.apply(loaded(3, "append", [zoned]))
        assert table.known.columns == (zoned,)
        table.apply(loaded(4, "append", [naive]))
        assert table.known.columns == (zoned,)
        table.apply(loaded(5, "replace", [naive]))
        assert table.known.columns == (naive,)


def test_keys_are_those_of_the_latest_upsert():
    table = remembered(loaded(1, "upsert", "AB", keys="A"), loaded(3, "upsert", "AB", keys="B"))
    table.apply(loaded(2, "upsert", "AB", keys="A"))
    table.apply(loaded(4, "replace", "AB"))
    assert table.known.keys == ("B",)


# --- Doubt


def test_a_push_of_unknown_outcome_leaves_the_table_in_doubt_until_a_later_replace():
    table = remembered(loaded(1, "replace", "A"), loaded(2, "append", "AB", is_unknown=True))
    assert (table.known.columns, table.known.doubt) == ((column("A"),), "p2")
    table.apply(loaded(3, "append", "A"))
    assert table.known.doubt == "p2"
    table.apply(loaded(4, "replace", "AC"))
    assert (table.known.columns, table.known.doubt) == ((column("A"), column("C")), "")


def test_a_replace_submitted_before_the_doubtful_push_does_not_clear_the_doubt():
    table = remembered(loaded(1, "replace", "A"), loaded(3, "append", "A", is_unknown=True))
    table.apply(loaded(2, "replace", "A"))
    assert table.known.doubt == "p3"


def test_a_doubtful_push_into_an_unknown_table_is_better_than_nothing():
    table = remembered(loaded(1, "replace", "AB", is_unknown=True))
    assert (table.known.columns, table.known.doubt) == ((column("A"), column("B")), "p1")


# --- The journal


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite3"


def opened(path):
    return contextlib.closing(JournalFile(path))


def record(
    file, number, columns=("A",), *, table="T", mode="replace", connection_id=None, state="done", ends=True, refused=0
):
    """Record a push as an older version did, which knows nothing of the memory."""
    push_id = f"p{number}"
    job = f"j{number}"
    named = [one if isinstance(one, KnownColumn) else column(one) for one in columns]
    schema = {"keys": [], "columns": [[c.name, c.type, "int64", c.length, c.conversion, False] for c in named]}
    target = {"table": table, "mode": mode, "keys": [], "connection_id": connection_id, "file_type": "PARQUET"}
    file.begin_push(PushRow(push_id, push_id, "acme", "pool", table, "a.csv", number, number, state))
    rows = [
        PushPlanned(target=target, pool_id="pool", schema=schema),
        JobCreated(job_id=job),
        ChunkSending(
            job_id=job, chunk_id="000000", rows=number, first_row=0, end_row=number, payload_bytes=1, digests={}
        ),
        ChunkAcked(job_id=job, chunk_id="000000"),
    ]
    for _ in range(refused):
        rows += [SubmitIntended(job_id=job), SubmitRefused(job_id=job)]
    rows += [SubmitIntended(job_id=job)]
    for fact in rows:
        file.append(FactRow.of(push_id, float(number), fact))
    if ends:
        end(file, number, state)


def end(file, number, state="done"):
    push_id = f"p{number}"
    file.append(FactRow.of(push_id, float(number), SubmitAccepted(job_id=f"j{number}")))
    receipt = {"status": "DONE"}
    fact = PushFinished(receipt=receipt) if state != "unknown" else PushFailed(receipt={"status": "UNKNOWN"})
    file.append(FactRow.of(push_id, float(number), fact))


def names(known):
    return None if known is None else [one.name for one in known.columns]


def test_the_journal_of_an_older_version_is_folded_when_it_is_opened(path):
    for suffix in ("", "-wal"):
        shutil.copy(RECORDED / f"journal.sqlite3{suffix}", f"{path}{suffix}")
    with opened(path) as file:
        (key,) = file.tables.all()
        known = file.known_table(key)
        assert (key.pool_id, key.connection_id, key.name, known.name) == ("pool-1", "", "done", "DONE")
        assert names(known) == ["ID", "NAME", "AMOUNT"]
        assert {one.type for one in known.columns} >= {"STRING", "FLOAT"}
        assert not file.known_table(key._replace(name="half"))


def test_what_an_older_version_loads_meanwhile_is_found_without_opening_the_file_again(path):
    with opened(path) as file, opened(path) as older:
        with file.transaction():
            record(file, 1, "A")
        assert names(file.known_table(KEY)) == ["A"]
        with older.transaction():
            record(older, 2, "AB")
        assert names(file.known_table(KEY)) == ["A", "B"]
        assert names(older.known_table(KEY)) == ["A", "B"]
    with opened(path) as file:
        assert file.known_table(KEY).rows == 2


def test_a_memory_older_than_a_push_of_an_older_version_is_brought_up_to_date_but_not_overtaken(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A")
        record(file, 2, "B", ends=False)
        record(file, 3, "C")
    with opened(path) as file:
        assert names(file.known_table(KEY)) == ["C"]
        with file.transaction():
            end(file, 2)
        assert names(file.known_table(KEY)) == ["C"]


def test_reading_only_applies_the_pushes_of_older_versions_too(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A")
    with opened(path) as file, file.transaction():
        record(file, 2, "AB", mode="append")
    before = path.read_bytes()
    with JournalReader(path) as reader:
        found = all_tables(reader)
    assert names(found[KEY].known) == ["A", "B"]
    assert path.read_bytes() == before


def test_a_journal_without_the_tables_can_be_read(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A")
    with contextlib.closing(sqlite3.connect(path)) as db, db:
        db.execute("DROP TABLE tables")
        db.execute("DROP TABLE tables_examined")
    with JournalReader(path) as reader:
        assert names(all_tables(reader)[KEY].known) == ["A"]


def test_the_last_fact_of_a_push_that_is_remembered_is_not_applied_again(path):
    with opened(path) as file:
        with file.transaction():
            record(file, 1, "A", ends=False)
            file.append(FactRow.of("p1", 1.0, PushFinished(receipt={"status": "DONE"}, is_remembered=True)))
        assert file.known_table(KEY) is None


@pytest.mark.parametrize("state", ["failed", "superseded", "open"])
def test_a_push_that_did_not_load_its_rows_is_not_remembered(path, state):
    with opened(path) as file, file.transaction():
        record(file, 1, "A", state=state)
    with opened(path) as file:
        assert file.known_table(KEY) is None


def test_an_unknown_outcome_in_an_older_journal_is_a_doubt(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A")
        record(file, 2, "AB", state="unknown")
    with opened(path) as file:
        known = file.known_table(KEY)
        assert (names(known), known.doubt) == (["A"], "p2")


def test_a_damaged_fact_of_one_push_costs_only_what_is_known_from_that_push(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A", table="OTHER")
        record(file, 2, "A")
        file._db.execute("UPDATE facts SET body = '{' WHERE push_id = 'p1' AND kind = 'push_planned'")
    with opened(path) as file:
        assert names(file.known_table(KEY)) == ["A"]
        assert file.known_table(KEY._replace(name="other")) is None


def test_a_refused_submit_does_not_count_as_the_order_of_the_push(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A", refused=1, ends=False)
        (refused,) = file._db.execute("SELECT min(seq) FROM facts WHERE kind = 'submit_intended'").fetchone()
        assert file.tables.submit_seq("p1", "j1") == refused + 2
        assert file.tables.submit_seq("p1", "other") == 0


def test_of_several_submits_of_a_job_the_last_one_took_effect(path):
    """The job was still NEW after the first one: its process died before the request left."""
    with opened(path) as file, file.transaction():
        record(file, 1, "A", ends=False)
        for fact in (SubmitUnknown(job_id="j1"), SubmitIntended(job_id="j1")):
            file.append(FactRow.of("p1", 1.0, fact))
        (last,) = file._db.execute("SELECT max(seq) FROM facts WHERE kind = 'submit_intended'").fetchone()
        assert file.tables.submit_seq("p1", "j1") == last
        for fact in (SubmitIntended(job_id="j1"), SubmitRefused(job_id="j1")):
            file.append(FactRow.of("p1", 1.0, fact))
        assert file.tables.submit_seq("p1", "j1") == last


def test_pruning_the_history_keeps_the_memory(path):
    with opened(path) as file:
        with file.transaction():
            record(file, 1, "A", ends=False)
            file.remember(KEY, loaded(1, "replace", "A"), "j1")
            file.append(FactRow.of("p1", 1.0, PushFinished(receipt={"status": "DONE"}, is_remembered=True)))
            record(file, 2, "B", table="OTHER", ends=False)
        with file.transaction():
            assert file.prune(1e9) == 1
        assert names(file.known_table(KEY)) == ["A"]
    with opened(path) as file:
        assert names(file.known_table(KEY)) == ["A"]


def test_the_history_of_an_older_version_is_remembered_before_it_is_pruned(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A")
        record(file, 2, "B", table="OTHER")
    with opened(path) as file:
        with file.transaction():
            assert file.prune(1e9) == 1
        assert names(file.known_table(KEY)) == ["A"]


def test_a_table_is_remembered_as_later_pushes_leave_it_although_the_whole_history_is_old(path):
    for number, columns in enumerate("AB"):
        with opened(path) as file, file.transaction():
            record(file, number, columns)
        with opened(path) as file:
            assert names(file.known_table(KEY)) == [columns]
            with file.transaction():
                file.prune(1e9)


def test_two_open_journals_see_each_other(path):
    with opened(path) as one, opened(path) as two:
        with one.transaction():
            record(one, 1, "A", ends=False)
            one.remember(KEY, loaded(0, "replace", "A"), "j1")
        assert two.known_table(KEY) is None  # `loaded(0)` is push p0, which has no submit
        with one.transaction():
            one.remember(KEY, dataclasses.replace(loaded(0, "replace", "A"), push_id="p1"), "j1")
        assert names(two.known_table(KEY)) == ["A"]
        with two.transaction():
            assert two.tables.forget(KEY)
            assert not two.tables.forget(KEY)
        assert one.known_table(KEY) is None


def test_tables_of_other_connections_and_pools_are_other_tables(path):
    with opened(path) as file, file.transaction():
        record(file, 1, "A")
        record(file, 2, "B", connection_id="c1")
    with opened(path) as file:
        assert names(file.known_table(KEY)) == ["A"]
        assert names(file.known_table(TableKey.of("acme", "pool", "c1", "t"))) == ["B"]
        assert file.known_table(KEY._replace(pool_id="other")) is None


def test_an_imported_table_counts_from_its_import(path):
    with opened(path) as file:
        with file.transaction():
            record(file, 1, "A", ends=False)
            seq = file.tables.last_seq()
            imported = RememberedTable(KnownTable("T", (column("X"),), version=seq), replaced_seq=seq)
            file.tables.put(KEY, imported)
        with file.transaction():
            end(file, 1)
        assert names(file.known_table(KEY)) == ["X"]
        with file.transaction():
            record(file, 2, "XB", mode="append")
        assert names(file.known_table(KEY)) == ["X", "B"]


def test_a_replace_that_ends_late_keeps_the_columns_of_a_later_delta_into_an_imported_table():
    table = RememberedTable(KnownTable("T", (column("A"), column("B"))), replaced_seq=1)
    table.apply(loaded(3, "append", "AB"))
    table.apply(loaded(2, "replace", "A"))
    assert table.known.columns == (column("A"), column("B"))


def test_a_table_is_stored_with_everything_that_is_known_of_it():
    table = remembered(
        loaded(
            1, "replace", [dataclasses.replace(column("A", "STRING", 40), conversion="plain_text"), column("B")], rows=3
        ),
        loaded(2, "upsert", "AB", keys="A"),
        loaded(3, "append", "ABC", is_unknown=True),
    )
    assert RememberedTable.from_body(table.to_body()) == table


def test_what_a_newer_version_added_to_a_table_is_ignored():
    import json

    body = json.loads(remembered(loaded(1)).to_body())
    body["later"] = body["known"]["later"] = 1
    assert RememberedTable.from_body(json.dumps(body)) == remembered(loaded(1))
