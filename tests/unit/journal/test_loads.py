"""What the journal remembers of loads, and journals of format 1: they are upgraded whole or not at all."""

import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys

import pytest
from support.journals import make_format_1

from pushengine.errors import JournalVersionError
from pushengine.journal import store
from pushengine.journal.facts import FactRow, PushPlanned, PushRow
from pushengine.journal.loads import (
    TABLES,
    BlockRow,
    CursorRow,
    FileRow,
    LoadedTable,
    LoadIdRow,
    Run,
    RunLoad,
)
from pushengine.journal.reader import JournalReader
from pushengine.journal.store import FORMAT_VERSION, JournalFile
from pushengine.model import Claim, FileRef

FILE = FileRow(
    load="sap",
    table="VBAP",
    path="/data/VBAP_1.csv",
    size=7,
    version=(1, 2, 3, 4),
    sha256="ab",
    generation="2026-11-27/3",
    state="loaded",
    push_id="p1",
    first_seen_at=10.0,
    loaded_at=20.5,
    cleanup='{"move": 1}',
)
LOADED = LoadedTable(
    load="sap", table="VBAP", team="t", pool_id="p", connection_id="", generation="g", push_id="p1", loaded_at=20.5
)
BLOCK = BlockRow(load="sap", table="VBAP", path="/data/a.csv", kind="failed", push_id="p1", reason="bad rows", at=5.0)
CURSOR = CursorRow(load="shop", table="ORDERS", value="2026-01-02", type="DATETIME", push_id="p2", at=3.0)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "journal.sqlite3"


@pytest.fixture
def file(path):
    with contextlib.closing(JournalFile(path)) as opened:
        yield opened


def tables_of(path):
    with contextlib.closing(sqlite3.connect(path)) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        names = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    return version, names


# --- Formats


def test_a_journal_of_format_1_is_upgraded_when_it_is_opened_for_writing_and_keeps_its_pushes(path):
    push = make_format_1(path)
    assert tables_of(path)[0] == 1
    with contextlib.closing(JournalFile(path)) as file:
        assert file.pushes() == [push]
        assert file.loads.runs() == []
        with file.transaction():
            file.loads.put_file(FILE)
        assert file.loads.files("sap") == [FILE]
    version, names = tables_of(path)
    assert version == FORMAT_VERSION == 2
    assert names >= set(TABLES)


def test_reading_a_journal_of_format_1_changes_nothing_and_finds_no_loads(path):
    push = make_format_1(path)
    before = path.read_bytes()
    with JournalReader(path) as reader:
        assert reader.pushes() == [push]
        loads = reader.loads
        assert (loads.files("a"), loads.tables(), loads.blocks(), loads.runs()) == ([], [], [], [])
        assert (loads.run("r"), loads.run_loads("r"), loads.cursor("a", "b"), loads.cursors()) == (None, [], None, [])
        assert (loads.open_pushes(), loads.load_id("t", "p", "x")) == ([], None)
    assert path.read_bytes() == before


def test_a_version_that_knows_format_1_only_refuses_a_journal_of_format_2(path, monkeypatch):
    JournalFile(path).close()
    monkeypatch.setattr("pushengine.journal.queries.FORMAT_VERSION", 1)
    with pytest.raises(JournalVersionError, match="the journal has format 2, this version supports up to 1"):
        JournalFile(path)


def _open_at(barrier, path):
    barrier.wait()
    JournalFile(path).close()


def test_processes_that_upgrade_one_journal_at_the_same_time_all_succeed(path):
    make_format_1(path)
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(3)
    processes = [context.Process(target=_open_at, args=(barrier, path)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert tables_of(path)[0] == 2


_DIES = """
import os, signal, sys
from pathlib import Path
from pushengine.journal.store import JournalFile
from pushengine.state.sqlite import PatientConnection
left = int(sys.argv[2])
execute = PatientConnection.execute
def counted(self, sql, *rest):
    global left
    if sql.lstrip().startswith(("CREATE", "PRAGMA user_version=", "COMMIT")):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return execute(self, sql, *rest)
PatientConnection.execute = counted
JournalFile(Path(sys.argv[1])).close()
"""


def test_a_process_killed_at_any_statement_of_an_upgrade_leaves_format_1_or_format_2_whole(path):
    push = make_format_1(path)
    statements = 0
    while True:
        code = subprocess.run([sys.executable, "-c", _DIES, path, str(statements)], check=False).returncode
        version, names = tables_of(path)
        if version == 1:
            assert not names & set(TABLES)
        else:
            assert names >= set(TABLES)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        statements = statements + 1 if version == 1 else 100
    assert statements > len(TABLES)
    with contextlib.closing(JournalFile(path)) as file:
        assert file.pushes() == [push]


# --- Files, tables, blocks, cursors


def test_rows_come_back_as_they_were_put(file):
    loads = file.loads
    with file.transaction():
        loads.put_file(FILE)
        loads.put_table(LOADED)
        loads.put_block(BLOCK)
        loads.put_cursor(CURSOR)
    assert (loads.files("sap", "VBAP"), loads.tables(), loads.blocks()) == ([FILE], [LOADED], [BLOCK])
    assert loads.cursor("shop", "ORDERS") == CURSOR
    assert (loads.files("other"), loads.tables("other"), loads.cursor("sap", "VBAP")) == ([], [], None)


def test_names_are_compared_case_folded_and_shown_as_they_are_spelled(file):
    loads = file.loads
    with file.transaction():
        loads.put_file(FILE)
        loads.put_table(dataclasses.replace(LOADED, table="STRAẞE"))
        loads.put_block(BLOCK)
        loads.put_file(dataclasses.replace(FILE, load="SAP", table="vbap", size=8))
    (found,) = loads.files("Sap", "vBAP")
    assert (found.load, found.table, found.size) == ("SAP", "vbap", 8)
    with file.transaction():
        assert loads.retire("SAP", "strasse")
        assert not loads.retire("SAP", "strasse")
        assert loads.lift("SAP", "vbap", BLOCK.path)
        assert loads.delete_file("SAP", "vbap", FILE.path)
    assert (loads.files("sap"), loads.tables(), loads.blocks()) == ([], [], [])


def test_paths_that_are_not_utf_8_are_kept(file, path):
    odd = dataclasses.replace(FILE, path=os.fsdecode(b"/data/\xe4.csv"))
    block = dataclasses.replace(BLOCK, path=odd.path, reason=f"cannot read {odd.path}")
    with file.transaction():
        file.loads.put_file(odd)
        file.loads.put_block(block)
    with JournalReader(path) as reader:
        assert reader.loads.files("sap") == [odd]
        assert reader.loads.blocks()[0].path == odd.path


def test_a_file_is_known_while_its_size_and_version_are_the_same():
    assert FILE.is_unchanged(FileRef(FILE.path, 7, (1, 2, 3, 4)))
    assert not FILE.is_unchanged(FileRef(FILE.path, 8, (1, 2, 3, 4)))
    assert not FILE.is_unchanged(FileRef(FILE.path, 7, (1, 2, 3, 5)))


# --- Runs


def test_a_run_is_kept_with_what_it_intends_and_what_it_did(file):
    loads = file.loads
    run = Run(run_id="r1", started_at=100.0, names=("sap.*", "x"), tag="night", pid=7)
    planned = [
        RunLoad(load="sap", table=table, generation="g", number=number, files=("/a", "/b"), load_id="l")
        for number, table in enumerate(("B", "A"))
    ]
    with file.transaction():
        loads.begin_run(run, planned)
    assert loads.run("r1") == run
    assert loads.run_loads("r1") == planned
    done = dataclasses.replace(
        planned[0], state="rejects", rows=5, rejected=1, is_late=True, push_id="p", reason="r", ended_at=2.5
    )
    with file.transaction():
        loads.set_load("r1", done)
        loads.end_run("r1", 200.0, 3)
    assert loads.run_loads("r1") == [done, planned[1]]
    assert loads.run("r1") == dataclasses.replace(run, ended_at=200.0, exit_code=3)
    with file.transaction():
        loads.take_run("r1", 8)
    assert loads.run("r1") == dataclasses.replace(run, pid=8)


def test_runs_are_listed_newest_first(file):
    with file.transaction():
        for number in range(4):
            file.loads.begin_run(Run(run_id=f"r{number}", started_at=float(number)), [])
    assert [run.run_id for run in file.loads.runs(since=1.0)] == ["r3", "r2", "r1"]
    assert [run.run_id for run in file.loads.runs(limit=1)] == ["r3"]


def test_pruning_keeps_the_newest_run_of_each_load_and_all_that_is_remembered(file):
    loads = file.loads
    with file.transaction():
        for number, tables in enumerate(("ABC", "AB", "A", "A")):
            items = [RunLoad(load="sap", table=table, number=place) for place, table in enumerate(tables)]
            loads.begin_run(Run(run_id=f"r{number}", started_at=float(number), ended_at=number + 0.5), items)
        loads.put_file(FILE)
        loads.put_table(LOADED)
        loads.put_block(BLOCK)
        loads.put_load_id("t", "p", LoadIdRow(load_id="l", push_id="p", request={}, receipt={"rows": 1}, at=1.0))
        file.prune(before=3.0)
    kept = {run.run_id: [load.table for load in loads.run_loads(run.run_id)] for run in loads.runs()}
    assert kept == {"r0": ["C"], "r1": ["B"], "r3": ["A"]}
    assert (loads.files("sap"), loads.tables(), loads.blocks()) == ([FILE], [LOADED], [BLOCK])
    assert loads.load_id("t", "p", "l").receipt == {"rows": 1}
    assert loads.load_id("t", "other", "l") is None


# --- Pushes of loads


def test_open_pushes_of_loads_are_found_by_their_claims(file):
    claim = Claim(load="sap", table="VBAP", generation="2026-11-27", run_id="r1")
    with file.transaction():
        for number, (state, claimed) in enumerate((("open", claim), ("open", None), ("failed", claim))):
            row = PushRow(f"p{number}", "i", "t", "p", "VBAP", "a.csv", number, number, state)
            file.begin_push(row)
            planned = PushPlanned(claim=None if claimed is None else claimed.to_dict())
            file.append(FactRow.of(row.push_id, 1.0, planned))
    assert file.loads.open_pushes() == file.loads.open_pushes("SAP") == [("p0", claim)]
    assert file.loads.open_pushes("other") == []


def test_the_schema_lists_all_tables_of_loads():
    assert store.LOADS_SCHEMA.count("CREATE TABLE") == len(TABLES)
