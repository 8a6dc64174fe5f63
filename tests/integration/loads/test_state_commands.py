"""`state`, `resolve` and `journal prune`: what a person sees of the memory of loads, and decides about it. None needs an account."""

import asyncio
import contextlib
import json

import pytest

from pushengine import EngineSettings, PushEngine, UserApiKey
from pushengine.cli.app import main
from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.errors import OutcomeUnknownError, SubmitOutcomeUnknownError
from pushengine.journal.loads import TABLES, BlockRow, CursorRow, FileRow, LoadedTable, LoadIdRow, Run, RunLoad
from pushengine.journal.reader import JournalReader
from pushengine.journal.store import JournalFile
from pushengine.journal.tables import all_tables
from pushengine.model import Claim

FILE = FileRow(
    load="sap",
    table="VBAP",
    path="/data/VBAP_1.csv",
    size=7,
    version=(1,),
    state="loaded",
    push_id="p1",
    loaded_at=20.5,
)
LOADED = LoadedTable(
    load="sap",
    table="VBAP",
    team="t",
    pool_id="p",
    connection_id="",
    generation="2026-11-27",
    push_id="p1",
    loaded_at=20.5,
)
BLOCK = BlockRow(load="sap", table="KNA1", path="/data/K.csv", kind="failed", push_id="p2", reason="bad " * 60, at=5.0)
CURSOR = CursorRow(load="shop", table="ORDERS", value="2026-01-02", type="DATETIME", push_id="p2", at=3.0)


@pytest.fixture
def state(tmp_path, monkeypatch):
    folder = tmp_path / "state"
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(folder))
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def filled(state):
    state.mkdir()
    with contextlib.closing(JournalFile(state / "journal.sqlite3")) as file, file.transaction():
        loads = file.loads
        loads.put_file(FILE)
        loads.put_table(LOADED)
        loads.put_block(BLOCK)
        loads.put_cursor(CURSOR)
        loads.put_load_id("t", "p", LoadIdRow(load_id="l", push_id="p1", request={}, receipt={"rows": 1}, at=1.0))
        loads.begin_run(
            Run(run_id="r", started_at=1.0, ended_at=2.0), [RunLoad(load="sap", table="VBAP", state="done")]
        )
    return state


@pytest.fixture
def run(capsys):
    def call(*arguments, code=0):
        capsys.readouterr()
        found = main(list(map(str, arguments)))
        output = capsys.readouterr()
        assert found == code, output.err
        return output.err if code else output.out

    return call


@contextlib.contextmanager
def loads_in(state):
    with JournalReader(state / "journal.sqlite3") as reader:
        yield reader.loads


# --- state


def test_state_show_lists_loads_with_files_cursors_blocks_and_expected_tables_in_80_columns(filled, run):
    shown = run("state", "show")
    for text in (
        "sap.VBAP",
        "2026-11-27",
        "sap.KNA1",
        "failed: /data/K.csv",
        "shop.ORDERS",
        "2026-01-02 (DATETIME)",
        "1 loaded",
    ):
        assert text in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert "sap.KNA1" not in run("state", "show", "sap.vbap")
    assert FILE.path in run("state", "show", "sap.vbap")
    assert "shop" not in run("state", "show", "SAP")


def test_state_show_prints_json(filled, run):
    found = {load["name"]: load for load in json.loads(run("state", "show", "--json"))["loads"]}
    assert list(found) == ["sap.KNA1", "sap.VBAP", "shop.ORDERS"]
    assert found["sap.VBAP"]["expected"]["generation"] == "2026-11-27"
    assert found["sap.VBAP"]["files"][0]["loaded_at"] == "1970-01-01T00:00:20Z"
    assert found["sap.KNA1"]["blocks"][0]["path"] == BLOCK.path
    assert found["shop.ORDERS"]["cursor"]["value"] == CURSOR.value


def test_without_a_journal_every_command_says_where_it_looked(state, run, tmp_path):
    for words in (("show",), ("skip", "sap.A", "f"), ("retire", "sap.A"), ("export", "--all")):
        assert f"no journal in {state}" in run("state", *words, code=2)
    assert f"no journal in {state}" in run("resolve", "p", "--loaded", code=2)
    assert not state.exists()


def test_a_load_that_is_not_known_is_named(filled, run):
    assert "nothing is remembered of a load sap.NOPE" in run("state", "show", "sap.NOPE", code=2)
    assert "a load is named RULE.TABLE" in run("state", "retire", "sap", code=2)


def test_state_skip_lifts_the_block_of_a_file_though_it_is_gone(filled, run):
    assert "skipped: /data/K.csv of sap.KNA1" in run("state", "skip", "SAP.kna1", BLOCK.path)
    with loads_in(filled) as loads:
        (file,) = loads.files("sap", "KNA1")
        assert (file.state, file.path, loads.blocks()) == ("skipped", BLOCK.path, [])
    assert "knows none" in run("state", "skip", "sap.KNA1", "/data/nothing.csv", code=2)


def test_state_skip_takes_a_file_as_it_is_now(filled, run, tmp_path):
    (tmp_path / "new.csv").write_text("ID\n1\n")
    assert json.loads(run("state", "skip", "sap.VBAP", "new.csv", "--json"))["was_blocked"] is False
    with loads_in(filled) as loads:
        file = next(row for row in loads.files("sap", "VBAP") if row.path == str(tmp_path / "new.csv"))
    assert (file.state, file.size, len(file.version)) == ("skipped", 5, 4)


def test_state_skip_does_not_lift_an_unknown_outcome(filled, run):
    with contextlib.closing(JournalFile(filled / "journal.sqlite3")) as file, file.transaction():
        file.loads.put_block(
            BlockRow(load="sap", table="KNA1", path=BLOCK.path, kind="unknown", push_id="p9", reason="", at=1)
        )
    assert "pushengine resolve p9 --loaded, or --not-loaded" in run("state", "skip", "sap.KNA1", BLOCK.path, code=2)


def test_state_retire_expects_a_table_no_longer(filled, run):
    assert run("state", "retire", "sap.vbap") == "retired: sap.VBAP\n"
    assert "not expected" in run("state", "retire", "sap.VBAP")
    with loads_in(filled) as loads:
        assert loads.tables() == []


def test_state_set_sets_the_cursor_and_keeps_its_type(filled, run):
    assert "it was 2026-01-02" in run("state", "set", "shop.orders", "2026-02-03")
    run("state", "set", "new.T", "5", "--type", "INTEGER")
    with loads_in(filled) as loads:
        cursor = loads.cursor("shop", "ORDERS")
        assert (cursor.value, cursor.type, cursor.load, cursor.table) == ("2026-02-03", "DATETIME", "shop", "ORDERS")
        assert loads.cursor("new", "T").type == "INTEGER"


def test_what_is_exported_is_remembered_by_another_host(filled, run, tmp_path, monkeypatch):
    run("state", "export", "--all", "--output", "all.json")
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(tmp_path / "other"))
    assert "1 file, 1 expected table, 1 cursor, 1 block, 1 load id, 1 run" in run("state", "import", "all.json")
    with loads_in(filled) as before, loads_in(tmp_path / "other") as now:
        for table in TABLES:
            assert now.dump(table) == before.dump(table) != []


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", '{"pushengine_state": 2}', '{"pushengine_state": 1}', "x", '{"pushengine_state": 1, "loads": 5}'],
)
def test_a_file_that_is_no_export_is_refused_and_changes_nothing(filled, run, tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    assert (
        "bad.json is not JSON" in (error := run("state", "import", "bad.json", code=2)) or "cannot be imported" in error
    )
    with loads_in(filled) as loads:
        assert loads.files("sap") == [FILE]


def test_a_value_of_a_wrong_type_is_refused_and_nothing_is_imported(filled, run, tmp_path):
    run("state", "export", "--all", "--output", "all.json")
    raw = json.loads((tmp_path / "all.json").read_text())
    raw["loads"]["load_files"][0]["path"] = '"/other"'
    raw["loads"]["load_blocks"][0]["at"] = "yesterday"
    (tmp_path / "all.json").write_text(json.dumps(raw))
    assert "cannot be imported: it is damaged" in run("state", "import", "all.json", code=2)
    with loads_in(filled) as loads:
        assert loads.files("sap") == [FILE]


# --- journal prune


def test_journal_prune_deletes_old_pushes_and_runs_and_keeps_what_is_remembered(filled, run):
    from pushengine.journal.facts import FactRow, PushRow, PushSuperseded

    with contextlib.closing(JournalFile(filled / "journal.sqlite3")) as file, file.transaction():
        for number in range(3):
            file.begin_push(PushRow(f"p{number}", "i", "t", "p", "T", "a.csv", 1.0, 1.0, "done"))
            file.append(FactRow.of(f"p{number}", 1.0, PushSuperseded()))
        file.loads.begin_run(Run(run_id="r2", started_at=3.0, ended_at=4.0), [RunLoad(load="sap", table="VBAP")])
    assert run("journal", "prune", "--before", "2026-01-01", "--dry-run").startswith(
        "would be deleted: 2 pushes and 1 run "
    )
    assert json.loads(run("journal", "prune", "--before", "30d", "--json"))["pushes"] == 2
    with JournalReader(filled / "journal.sqlite3") as reader:
        assert [push.push_id for push in reader.pushes()] == ["p2"]
        assert [row.run_id for row in reader.loads.runs()] == ["r2"]
        assert reader.loads.load_id("t", "p", "l") is not None
    assert "--before soon names no time" in run("journal", "prune", "--before", "soon", code=2)
    assert run("journal", "prune").startswith("deleted: 0 pushes and 0 runs ")


# --- resolve


async def _lose(state, source, mode):
    """Push a file whose job vanishes once it is submitted; return the id of the push."""
    claim = Claim(load="sap", table="T", generation="g", run_id="r")
    quick = EngineSettings(settle_seconds=0.001)
    async with (
        Emulator(settings=EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)) as emulator,
        PushEngine(emulator.url, pool_id="pool-1", auth=UserApiKey("k"), state_dir=state, settings=quick) as engine,
    ):

        async def lost(job_id, **_options):
            del emulator.service.jobs[job_id]
            raise OutcomeUnknownError("no response")

        engine._client.submit_job = lost
        keys = ["ID"] if mode == "upsert" else []
        with pytest.raises(SubmitOutcomeUnknownError) as caught:
            await engine.push(source, table="T", mode=mode, keys=keys, claim=claim, load_id="x")
    assert f"pushengine resolve {caught.value.receipt.push_id} --loaded" in caught.value.hint
    return caught.value.receipt.push_id, engine.team


@pytest.fixture
def lose(state, tmp_path):
    def call(mode):
        source = tmp_path / "a.csv"
        source.write_text("ID,S\n1,x\n2,y\n")
        state.mkdir()
        with contextlib.closing(JournalFile(state / "journal.sqlite3")) as file, file.transaction():
            file.loads.begin_run(Run(run_id="r", started_at=1.0), [RunLoad(load="sap", table="T", generation="g")])
        return (*asyncio.run(_lose(state, source, mode)), str(source))

    return call


@pytest.mark.parametrize("mode", ["replace", "append", "upsert"])
def test_a_push_that_was_loaded_counts_as_done(state, run, lose, mode):
    push_id, team, source = lose(mode)
    told = run("show", push_id)
    assert f"pushengine resolve {push_id} --loaded\n" in told
    assert f"pushengine resolve {push_id} --not-loaded\n" in told
    assert "say whether push" in run("resolve", push_id, code=2)
    assert run("resolve", push_id, "--loaded") == f"resolved: push {push_id} is done; no longer blocked: sap.T\n"
    with JournalReader(state / "journal.sqlite3") as reader:
        assert reader.push(push_id).state == "done"
        (file,), loads = reader.loads.files("sap"), reader.loads
        assert (file.path, file.state, file.push_id, loads.blocks()) == (source, "loaded", push_id, [])
        assert [table.table for table in loads.tables()] == ["T"]
        assert loads.load_id(team, "pool-1", "x").receipt["status"] == "DONE"
        assert loads.run_loads("r")[0].state == "done"
        ((known,),) = (all_tables(reader).values(),)
        assert (known.known.doubt, known.is_guess, [column.name for column in known.known.columns]) == (
            "",
            False,
            ["ID", "S"],
        )
    assert "resolved: a person found that it was loaded" in run("show", push_id)
    assert "it is done" in run("resolve", push_id, "--loaded", code=2)


@pytest.mark.parametrize("mode", ["append", "upsert"])
def test_a_push_that_was_not_loaded_counts_as_failed(state, run, lose, mode):
    push_id, team, source = lose(mode)
    run("resolve", push_id, "--not-loaded", "--json")
    with JournalReader(state / "journal.sqlite3") as reader:
        loads = reader.loads
        assert (reader.push(push_id).state, loads.files("sap"), loads.tables()) == ("failed", [], [])
        assert loads.load_id(team, "pool-1", "x") is None
        # The files of an upsert go in order: the failed one comes first.
        assert [(block.path, block.kind) for block in loads.blocks()] == (
            [] if mode == "append" else [(source, "failed")]
        )
        assert loads.run_loads("r")[0].state == "failed"
        assert all_tables(reader) == {}
    assert "not loaded" in run("show", push_id)
