"""Rows that cannot be loaded are left out and listed, as far as the user allows it; otherwise nothing is submitted."""

import csv
import datetime as dt
import gzip
import json
import os
import sqlite3
import stat

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.interrupting import interrupted

from pushengine import errors, events
from pushengine.config.options import LoadOptions
from pushengine.config.settings import EngineSettings
from pushengine.push.plan import plan_source

HEADER = ["file", "line", "byte_position", "column_name", "error_type", "csv_line", "error_message"]
SMALL = {"sample_bytes": 64 * 1024, "chunk_bytes": 64 * 1024}
MIXED = 'ID,QTY,NAME\n1,5,anna\n2,x,bert\n3,7\n4,8,"da\nniel",extra\n5,9,"ev\na"\n\n6,,frank\n,y,gina\n'
"""Of seven rows, four cannot be loaded if QTY is INTEGER and ID is the key."""
UPSERT = {"mode": "upsert", "keys": ["ID"], "column_types": {"QTY": "INTEGER"}}


def listed(receipt):
    """Return the lines of the file that lists the rejected rows, as a CSV reader sees them, without its header."""
    with open(receipt.rejects["file"], encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    assert header == HEADER
    return lines


def found_facts(stage, kind):
    with sqlite3.connect(stage.folder / "state" / "journal.sqlite3") as db:
        return [
            json.loads(body) for (body,) in db.execute("SELECT body FROM facts WHERE kind = ? ORDER BY seq", [kind])
        ]


async def test_the_file_lists_each_rejected_row_whole_and_all_others_are_loaded(nights, tmp_path):
    receipt = await nights.push(MIXED, max_rejects=4, **UPSERT)
    assert await nights.rows() == [(1, 5, "anna"), (5, 9, "ev\na"), (6, None, "frank")]
    path = tmp_path / "state" / "rejects" / f"{receipt.push_id}.csv"
    assert receipt.rejects == {"rows": 4, "file": str(path)}
    assert (receipt.status, receipt.rows, receipt.submits) == ("DONE", 3, 1)
    name = str(tmp_path / "night1.csv")
    not_integer = " does not fit QTY INTEGER: not an integer"
    assert listed(receipt) == [
        [name, "3", "21", "QTY", "CAST", "2,x,bert", f"'x'{not_integer}"],
        [name, "4", "30", "", "MISSING COLUMNS", "3,7", "expected 3 fields, found 2"],
        [name, "5", "34", "", "TOO MANY COLUMNS", '4,8,"da\nniel",extra', "expected 3 fields, found 4"],
        [name, "11", "75", "ID", "NULL KEY", ",y,gina", "no value in a key column"],
        [name, "11", "75", "QTY", "CAST", ",y,gina", f"'y'{not_integer}"],
    ]
    text = (tmp_path / "night1.csv").read_bytes()
    for _, line, at, _, _, row, _ in listed(receipt):
        assert text[int(at) :].startswith(row.encode())
        assert text.count(b"\n", 0, int(at)) == int(line) - 1
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
    assert found_facts(nights.stage, "rows_rejected") == [{"job_id": receipt.job_id, "rows": 4, "file": str(path)}]
    assert [event.rows for event in nights.stage.sink.of(events.RowsRejected)] == [4]
    assert [chunk["rejected"] for chunk in found_facts(nights.stage, "chunk_sending")] == [4]
    assert nights.submits() == 1


@pytest.mark.parametrize(("allowed", "total"), [(4, 7), (0.5, 8), ("50%", 8), (0.4, 10), (1.0, 7), ("4", 7)])
async def test_the_limit_itself_is_allowed(nights, allowed, total):
    text = MIXED + "".join(f"{number},1,x\n" for number in range(100, 100 + total - 7))
    receipt = await nights.push(text, max_rejects=allowed, **UPSERT)
    assert (receipt.rows, receipt.rejects["rows"]) == (total - 4, 4)


@pytest.mark.parametrize(
    ("allowed", "total", "limit"), [(3, 7, "3"), (0.5, 7, "50%"), (0.3999, 10, "39.99%"), ("57%", 7, "57%")]
)
async def test_above_the_limit_nothing_is_submitted_and_the_file_tells_why(nights, tmp_path, allowed, total, limit):
    await nights.push("ID,QTY,NAME\n9,9,i\n", mode="upsert", keys=["ID"])
    text = MIXED + "".join(f"{number},1,x\n" for number in range(100, 100 + total - 7))
    error = await nights.refused(text, errors.SchemaError, max_rejects=allowed, **UPSERT)
    path = tmp_path / "state" / "rejects" / f"{error.receipt.push_id}.csv"
    assert error.receipt.rejects == {"rows": 4, "file": str(path)}
    assert len(listed(error.receipt)) == 5
    assert (error.source, error.position) == (str(tmp_path / "night2.csv"), "line 3, column QTY")
    assert error.message == (
        f"'x' does not fit QTY INTEGER: not an integer; 4 of {total} rows cannot be loaded, and max_rejects allows {limit}: see {path}"
    )
    assert error.hint == "fix the rows, or leave them out: --max-rejects 4"
    assert nights.stage.jobs("NEW") == []
    assert found_facts(nights.stage, "push_failed")[-1]["receipt"]["rejects"]["rows"] == 4


async def test_without_max_rejects_the_first_bad_row_ends_the_push(nights, tmp_path):
    error = await nights.refused("ID,QTY\n1,2\n3\n", max_rejects=0)
    assert error.message == "expected 2 fields, found 1"
    error = await nights.refused("ID,QTY\n1,2\n3,x\n", column_types={"QTY": "INTEGER"})
    assert error.message.startswith("'x' does not fit QTY INTEGER")
    assert error.receipt.rejects is None
    assert not (tmp_path / "state" / "rejects").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'ID,QTY\n1,2\n3\n4,"5\n', "a quote opens here and is never closed"),
        (b'ID,QTY\n1,2\n3\n4,"5"6\n', "text after the closing quote of a field"),
        (b"ID,QTY\n1,2\n3\n4,\xff\n", "not UTF-8 text: invalid start byte"),
        (b"ID,QTY\n1,2\n3,4,\xff\n", "not UTF-8 text: invalid start byte"),
    ],
)
async def test_quotes_and_encodings_always_refuse(nights, tmp_path, content, message):
    (tmp_path / "a.csv").write_bytes(content)
    error = await nights.refused(tmp_path / "a.csv", errors.SourceReadError, max_rejects=1.0)
    assert error.message == message
    assert error.receipt.rejects is None


async def test_a_source_of_which_no_row_is_left_is_refused_whatever_is_allowed(nights):
    await nights.push("ID,QTY\n1,2\n")
    error = await nights.refused("ID,QTY\n1\n2\n", max_rejects=1.0, allow_empty=True)
    assert "2 of 2 rows cannot be loaded, and no row is left to load" in error.message


async def test_an_inferred_type_widens_before_a_row_is_rejected(start, save_csv):
    stage = await start(**SMALL)
    rows = [(number, str(number)) for number in range(20_000)]
    rows[15_000] = (15_000, "0042")
    receipt = await stage.push(save_csv("a.csv", rows, ["N", "CODE"]), max_rejects=10)
    assert (receipt.rows, receipt.restarts, receipt.rejects) == (20_000, 1, None)
    assert await stage.query("select CODE from T where N = 15000") == [("0042",)]


@pytest.mark.parametrize("late", [False, True])
async def test_a_rejected_row_does_not_widen_the_types_of_others(start, save_csv, late):
    stage = await start(**SMALL)
    rows = [(number, number, number) for number in range(20_000)]
    at = 19_000 if late else 3
    rows[at] = ("no key" if not late else "0x", "abc", "def")
    path = save_csv("a.csv", rows, ["N", "A", "B"])
    receipt = await stage.push(path, max_rejects=1, column_types={"A": "INTEGER"})
    assert (receipt.rows, receipt.restarts) == (19_999, 0)
    assert {column["type"] for column in receipt.schema} == {"INTEGER"}
    assert {line[4] for line in listed(receipt)} == {"CAST"}
    assert {line[1] for line in listed(receipt)} == {str(at + 2)}


async def test_a_misfit_to_a_remembered_type_is_rejected_in_an_append_and_widens_a_replace(nights):
    await nights.push("N\n1\n")
    receipt = await nights.push("N\n2\nx\n3\n", mode="append", max_rejects=1)
    assert await nights.rows() == [(1,), (2,), (3,)]
    assert [line[3:6] for line in listed(receipt)] == [["N", "CAST", "x"]]
    receipt = await nights.push("N\n2\nx\n3\n", types="refuse", max_rejects=1)
    assert await nights.rows() == [(2,), (3,)]
    receipt = await nights.push("N\n2\nx\n3\n", max_rejects=1)
    assert receipt.rejects is None
    assert await nights.rows() == [("2",), ("3",), ("x",)]


async def test_dates_of_several_spellings_reject_the_fewest_rows(nights):
    text = "AT\n2026-01-31\n2026-01-31 10:00:00\n2026-02-01 11:00:00\nnever\n2026-02-02 12:00:00\n"
    receipt = await nights.push(text, column_types={"AT": "DATETIME"}, max_rejects=2)
    assert len(await nights.rows()) == receipt.rows >= 3
    assert {line[5] for line in listed(receipt)} <= {"2026-01-31", "never"}
    assert receipt.rows + receipt.rejects["rows"] == 5


async def test_a_string_that_is_too_long_is_rejected_and_never_cut(nights):
    long, longer = "x" * 11, "y" * 16_251
    text = f"N,A,B\n1,abc,d\n2,{long},e\n3,abc,{longer}\n"
    receipt = await nights.push(text, column_types={"A": "STRING(10)"}, max_rejects=2)
    assert await nights.rows() == [(1, "abc", "d")]
    assert [(line[3], line[4], line[5]) for line in listed(receipt)] == [
        ("A", "LENGTH", f"2,{long},e"),
        ("B", "LENGTH", f"3,abc,{longer}"),
    ]
    assert listed(receipt)[0][6] == f"'{long}' has 11 characters, more than the requested 10"


async def test_rows_without_key_are_rejected_before_equal_keys_are_found(nights):
    text = "ID,V\n,1\n,2\n1,a\n2\n1,b\n"
    error = await nights.refused(text, errors.SchemaError, mode="upsert", keys=["ID"], max_rejects=3)
    assert error.position == "row 5"
    assert error.message.startswith("has the same key as row 3 (ID '1') and differs from it")
    receipt = await nights.push(text, mode="upsert", keys=["ID"], max_rejects=3, duplicate_keys="last")
    assert await nights.rows() == [(1, "b")]
    assert [line[4] for line in listed(receipt)] == ["NULL KEY", "NULL KEY", "MISSING COLUMNS"]
    assert receipt.rejects["rows"] == 3


async def test_parquet_with_rows_to_reject_is_decoded_and_listed_as_json(nights, tmp_path):
    at = dt.datetime(2026, 1, 31, 12)
    rows = pa.table({"ID": [1, None, 3], "AT": [at, at, None], "S": ["a", 'b"ü', None], "X": [1.5, float("nan"), 2.0]})
    pq.write_table(rows, tmp_path / "good.parquet", use_deprecated_int96_timestamps=True)
    pq.write_table(rows.slice(0, 1), tmp_path / "first.parquet", use_deprecated_int96_timestamps=True)
    receipt = await nights.push(tmp_path / "first.parquet", mode="upsert", keys=["ID"], max_rejects=1)
    assert (receipt.restarts, receipt.rejects) == (0, None)
    receipt = await nights.push(tmp_path / "good.parquet", mode="upsert", keys=["ID"], max_rejects=1)
    assert (receipt.rows, receipt.restarts) == (2, 1)
    assert await nights.rows("ID, S") == [(1, "a"), (3, None)]
    ((name, line, at_byte, column, kind, row, message),) = listed(receipt)
    assert (name, line, at_byte, column, kind) == (str(tmp_path / "good.parquet"), "", "", "ID", "NULL KEY")
    assert json.loads(row) == {"ID": None, "AT": "2026-01-31 12:00:00", "S": 'b"ü', "X": "nan"}
    assert message == "no value in a key column"
    error = await nights.refused(tmp_path / "good.parquet", mode="upsert", keys=["ID"])
    assert error.message == "no value in a key column"


@pytest.mark.parametrize("file_type", ["PARQUET", "CSV"])
async def test_rows_of_an_arrow_table_are_rejected(open_nights, file_type):
    nights = await open_nights(file_type=file_type)
    table = pa.table({"N": pa.array(["1", "x", "3"]), "AT": pa.array([0, 0, -(2**62)], pa.timestamp("us"))})
    receipt = await nights.push(table, column_types={"N": "INTEGER"}, max_rejects=2)
    assert await nights.rows("N") == [(1,)]
    assert [(line[3], line[4]) for line in listed(receipt)] == [("N", "CAST"), ("AT", "CAST")]
    assert [json.loads(line[5])["N"] for line in listed(receipt)] == ["x", "3"]


async def test_an_iterator_that_can_be_read_only_once_has_rejects_too(nights):
    async def batches():
        for number in range(3):
            yield pa.record_batch({"N": [str(number), "x"]})

    receipt = await nights.push(batches(), column_types={"N": "INTEGER"}, max_rejects=3)
    assert await nights.rows() == [(0,), (1,), (2,)]
    assert [line[5] for line in listed(receipt)] == ['{"N": "x"}'] * 3


async def test_positions_are_those_of_the_decompressed_text_in_utf8(nights, tmp_path):
    text = "N;S\n1;äöü\n2\n3;ß;x\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode("cp1252")))
    receipt = await nights.push(tmp_path / "a.csv.gz", encoding="cp1252", max_rejects=2)
    assert [line[1:6] for line in listed(receipt)] == [
        ["3", str(len("N;S\n1;äöü\n".encode())), "", "MISSING COLUMNS", "2"],
        ["4", str(len("N;S\n1;äöü\n2\n".encode())), "", "TOO MANY COLUMNS", "3;ß;x"],
    ]


async def test_several_files_have_one_list_in_their_order(nights, tmp_path):
    for name, text in (("b.csv", "N,S\n1,a\n2\n"), ("a.csv", "S,N\n,x\nb,3\r\n"), ("c.csv", "N,S\n4\n5,e\n")):
        (tmp_path / name).write_text(text)
    receipt = await nights.push(tmp_path / "*.csv", column_types={"N": "INTEGER"}, max_rejects=3)
    assert await nights.rows("N") == [(1,), (3,), (5,)]
    assert [(os.path.basename(line[0]), line[1], line[5]) for line in listed(receipt)] == [
        ("a.csv", "2", ",x"),
        ("b.csv", "3", "2"),
        ("c.csv", "2", "4"),
    ]


async def test_a_file_with_one_column_can_reject_rows_and_keeps_empty_lines(nights):
    receipt = await nights.push("N\n1\n\n2,3\n4", column_types={"N": "INTEGER"}, max_rejects=1)
    assert await nights.rows(order="1 nulls first") == [(None,), (1,), (4,)]
    assert [line[1:6] for line in listed(receipt)] == [["4", "5", "", "TOO MANY COLUMNS", "2,3"]]


async def test_guards_count_the_rows_that_are_loaded(nights):
    await nights.push("N\n1\n2\n3\n4\n")
    error = await nights.refused("N,M\n1,1\n2,2\n3\n", min_rows=3, max_rejects=1)
    assert error.message.startswith("2 rows, fewer than the 3")
    error = await nights.refused("N\n1\n2\n3,4\n", max_drop=0.25, max_rejects=1)
    assert "2 rows, 50% fewer" in error.message


async def test_a_hopeless_source_is_not_read_to_its_end(start, save_csv):
    stage = await start(**SMALL)
    rows = [(number, "x") for number in range(200_000)]
    with pytest.raises(
        errors.SchemaError, match=r"more than [0-9,]+ cannot be loaded, and max_rejects allows 2"
    ) as caught:
        await stage.push(save_csv("a.csv", rows, ["N", "M"]), column_types={"M": "INTEGER"}, max_rejects=2)
    receipt = caught.value.receipt
    assert 1002 < receipt.rejects["rows"] < 200_000
    assert len(listed(receipt)) == receipt.rejects["rows"]
    assert caught.value.position == "line 2, column M"
    assert stage.jobs() == []


async def test_lists_are_deleted_with_the_history(nights, tmp_path):
    folder = tmp_path / "mine"
    first = await nights.push("N,M\n1,1\n2\n", max_rejects=1, rejects=folder)
    second = await nights.push("N,M\n1,1\n2\n", max_rejects=1)
    other = folder / "notes.csv"
    other.write_text("mine")
    paths = [first.rejects["file"], second.rejects["file"]]
    for path in (*paths, other):
        os.utime(path, (0, 0))
    third = await nights.push("N,M\n1,1\n2\n", max_rejects=1, rejects=folder)
    assert [os.path.exists(path) for path in (*paths, other)] == [False, True, True]
    await nights.stage.engine.aclose()
    await nights.stage.open_engine()
    assert [os.path.exists(path) for path in (*paths, third.rejects["file"])] == [False, False, True]


async def test_a_folder_that_cannot_be_written_ends_the_push_before_the_submit(nights, tmp_path):
    (tmp_path / "file").write_text("")
    error = await nights.refused("N,M\n1,1\n2\n", errors.ConfigError, max_rejects=1, rejects=tmp_path / "file")
    assert error.key == "rejects"


@pytest.mark.parametrize("value", [-1, 1.5, "x", "101%", "nan"])
async def test_a_limit_that_makes_no_sense_is_refused(nights, value):
    with pytest.raises(errors.ConfigError) as caught:
        await nights.push("N\n1\n", max_rejects=value)
    assert caught.value.key.startswith("max_rejects")


async def test_a_plan_counts_the_rejects_of_its_sample(tmp_path):
    (tmp_path / "a.csv").write_text(MIXED)
    plan = await plan_source(
        tmp_path / "a.csv",
        table="T",
        mode="upsert",
        keys=["ID"],
        options=LoadOptions(column_types={"QTY": "INTEGER"}),
        settings=EngineSettings(max_rejects=1),
    )
    assert plan.notes[0] == (
        "4 of 7 rows read would be rejected, the first one because: 'x' does not fit QTY INTEGER: not an integer"
    )
    assert (plan.sampled_rows, len(plan.first_rows)) == (7, 3)
    assert not (tmp_path / "state").exists()


# --- Interrupted pushes


def many_rows(count=30_000):
    """Return rows of which every thousandth has a field too few and every 777th a bad number, and the numbers of the others."""
    lines, good = [], []
    for number in range(count):
        if number % 1000 == 500:
            lines.append(f"{number}\n")
        elif number % 777 == 300:
            lines.append(f'{number},x,"text of\nrow {number}"\n')
        else:
            lines.append(f"{number},{number},text of row {number}\n")
            good.append(number)
    return lines, good


async def save_many(folder):
    lines, good = many_rows()
    path = folder / "many.csv"
    path.write_text("".join(["N,M,S\n", *lines]))
    bad = [line.removesuffix("\n") for number, line in enumerate(lines) if number % 1000 == 500 or number % 777 == 300]
    return path, good, bad


MANY = {"column_types": {"M": "INTEGER"}, "mode": "append"}


@pytest.mark.parametrize("kind", [events.ChunkUploaded, events.RowsRejected, events.JobVerified])
async def test_a_push_that_is_resumed_lists_all_rejected_rows_once(start, tmp_path, kind):
    stage = await start(**SMALL)
    path, good, bad = await save_many(tmp_path)
    options = MANY | {"max_rejects": len(bad)}
    stopped = await interrupted(stage, stage.push(path, **options), kind, **SMALL)
    receipt = await stage.push(path, **options)
    assert (receipt.push_id, receipt.resumed, receipt.restarts) == (stopped.push_id, True, 0)
    assert (receipt.rows, receipt.rejects["rows"]) == (len(good), len(bad))
    assert await stage.rows(columns="N") == [(number,) for number in good]
    assert [line[5] for line in listed(receipt)] == bad
    assert len(stage.jobs()) == 1


async def test_a_push_that_is_resumed_without_max_rejects_does_not_submit_what_lacks_rows(start, tmp_path):
    stage = await start(**SMALL)
    path, _, bad = await save_many(tmp_path)
    await interrupted(stage, stage.push(path, **MANY, max_rejects=len(bad)), events.ChunkUploaded, **SMALL)
    with pytest.raises(errors.SourceError):
        await stage.push(path, **MANY)
    assert stage.jobs() == []


async def test_a_push_that_is_resumed_by_its_id_keeps_its_limit_and_its_folder(start, tmp_path):
    stage = await start(**SMALL)
    path, good, bad = await save_many(tmp_path)
    options = MANY | {"max_rejects": 0.01, "rejects": tmp_path / "mine"}
    stopped = await interrupted(stage, stage.push(path, **options), events.ChunkUploaded, **SMALL)
    receipt = await stage.engine.resume(stopped.push_id)
    assert receipt.rejects == {"rows": len(bad), "file": str(tmp_path / "mine" / f"{receipt.push_id}.csv")}
    assert [line[5] for line in listed(receipt)] == bad
    assert await stage.rows(columns="N") == [(number,) for number in good]


async def test_a_chunk_of_which_every_row_is_rejected_does_not_shift_the_rows_after_it(start, tmp_path):
    """Parquet knows its row counts, so a resumed push begins in the middle."""
    stage = await start(**SMALL, parquet_as_it_is=False, max_uploads=1)
    count, bad = 30_000, range(10_000, 20_000)
    texts = [None if number in bad else f"{number:08d}" for number in range(count)]
    table = pa.table({"ID": texts, "N": range(count), "S": [f"text of row {number}" for number in range(count)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    options = {"mode": "upsert", "keys": ["ID"], "duplicate_keys": "allow", "max_rejects": 0.5}

    class AfterBad:
        """Drains the engine once a chunk after the bad rows has arrived."""

        def emit(self, event):
            if isinstance(event, events.ChunkUploaded) and int(event.chunk_id) > 12:
                stage.engine.drain()

    stage.engine._bus.add(AfterBad())
    with pytest.raises(errors.EngineClosedError):
        await stage.push(tmp_path / "a.parquet", **options)
    await stage.engine.aclose()
    stage.engine = await stage.open_engine(**SMALL, parquet_as_it_is=False)
    receipt = await stage.push(tmp_path / "a.parquet", **options)
    assert (receipt.resumed, receipt.rows, receipt.rejects["rows"]) == (True, 20_000, 10_000)
    assert await stage.query("select count(*), count(distinct ID), sum(N) from T") == [
        (20_000, 20_000, sum(set(range(count)) - set(bad)))
    ]
    assert [json.loads(line[5])["N"] for line in listed(receipt)] == list(bad)


async def test_a_resumed_push_of_decoded_parquet_stays_decoded(start, tmp_path):
    stage = await start(**SMALL)
    count = 20_000
    table = pa.table({"ID": [None if number == 15_000 else number for number in range(count)], "S": ["x" * 20] * count})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=1000)
    options = {"mode": "upsert", "keys": ["ID"], "max_rejects": 1}
    stopped = await interrupted(stage, stage.push(tmp_path / "a.parquet", **options), events.RowsRejected, **SMALL)
    assert stopped.restarts == 1
    receipt = await stage.push(tmp_path / "a.parquet", **options)
    assert (receipt.push_id, receipt.restarts, receipt.rows) == (stopped.push_id, 1, count - 1)
    assert len(listed(receipt)) == 1


async def test_touched_files_of_a_push_with_rejects_are_compared_without_them(start, tmp_path):
    stage = await start(**SMALL)
    path, good, bad = await save_many(tmp_path)
    options = {"column_types": {"M": "INTEGER"}, "max_rejects": len(bad)}
    stopped = await interrupted(stage, stage.push(path, **options), events.JobVerified, **SMALL)
    path.touch()
    receipt = await stage.push(path, column_types={"M": "INTEGER"})
    assert receipt.push_id == stopped.push_id
    assert (receipt.rows, receipt.rejects["rows"], receipt.submits) == (len(good), len(bad), 1)
