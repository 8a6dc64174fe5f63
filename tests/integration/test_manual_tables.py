"""The manual says in three tables what lands where. Each of their rows is a test here, found by its first cell."""

import datetime as dt
import decimal
import gzip
import re
import uuid
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pushengine import errors

MANUAL = Path(__file__).parents[2] / "pushengine" / "manual"
TABLES = {"types": "What lands where", "files": "Files as people write them", "tables": "Tables that exist"}
CASES = {}


def rows_of(topic, heading):
    """Return the first cell of each row of the table under a heading of a page."""
    text = (MANUAL / f"{topic}.md").read_text(encoding="utf-8")
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.strip("|").split(" | ")[0].strip() for line in section.splitlines() if line.startswith("| ")]
    return cells[1:]  # without the head


def case(first_cell):
    def register(function):
        CASES[first_cell] = function
        return function

    return register


ROWS = [row for topic, heading in TABLES.items() for row in rows_of(topic, heading)]


def test_every_row_of_the_tables_is_a_case():
    assert sorted(CASES) == sorted(ROWS)


@pytest.mark.parametrize("first_cell", ROWS)
async def test_the_row_is_true(first_cell, nights):
    await CASES[first_cell](nights)


async def lands(nights, source, kind, *values, **options):
    """Push one column X, and compare its type and values."""
    await nights.push(source, **options)
    assert (await nights.types())["X"] == kind
    assert [row[0] for row in await nights.rows(columns='"X"', order="rowid")] == list(values)


# --- What lands where


@case("CSV integer, `0`, `-17`")
async def _(nights):
    await lands(nights, "X,Y\n0,a\n-17,b\n9223372036854775807,c\n", "BIGINT", 0, -17, 2**63 - 1)
    await lands(nights, "X,Z\n007,a\n", "VARCHAR(255)", "007", table="T")


@case("CSV decimal, any float")
async def _(nights):
    await lands(nights, "X\n1.25\n.5\n", "DOUBLE", 1.25, 0.5)
    await lands(nights, "X\n0.1234567890123456789\n", "VARCHAR(255)", "0.1234567890123456789")


@case("CSV `1E-02`, `12E4`")
async def _(nights):
    await lands(nights, "X,Y\n1E-02,a\n12E4,b\n", "VARCHAR(255)", "1E-02", "12E4")
    await nights.push("X,Y\n1E-02,a\n2.5,b\n", table="U")
    assert await nights.stage.query("SELECT X FROM U ORDER BY Y") == [(0.01,), (2.5,)]


@case("CSV ISO date-time with offset or `Z`")
async def _(nights):
    at = dt.datetime(2026, 1, 31, 10)
    await lands(nights, "X\n2026-01-31T12:00:00+02:00\n2026-01-31T10:00:00Z\n", "TIMESTAMP", at, at)


@case("CSV ISO date-time without")
async def _(nights):
    await lands(nights, "X\n2026-01-31 10:00:00.123456\n", "TIMESTAMP", dt.datetime(2026, 1, 31, 10, 0, 0, 123456))
    mixed = ("2026-01-31 10:00:00", "2026-01-31 10:00:00Z")
    await lands(nights, "X\n{}\n{}\n".format(*mixed), "VARCHAR(255)", *mixed)


@case("date")
async def _(nights):
    await lands(nights, "X\n2026-01-31\n", "TIMESTAMP", dt.datetime(2026, 1, 31))
    await lands(nights, pa.table({"X": [dt.date(2026, 1, 31)]}), "TIMESTAMP", dt.datetime(2026, 1, 31))


@case("string")
async def _(nights):
    await lands(nights, "X\nabc\n", "VARCHAR(255)", "abc")
    await lands(nights, f"X\n{'y' * 100}\n", "VARCHAR(255)", "y" * 100)  # it fits: a length changes only if it has to
    await lands(nights, f"X\n{'y' * 300}\n", "VARCHAR(1200)", "y" * 300)


@case('empty CSV field / `""`')
async def _(nights):
    await lands(nights, 'X,Y\n,a\n"",b\n', "VARCHAR(255)", None, "")


@case("decimal")
async def _(nights):
    whole, exact, long = decimal.Decimal(17), decimal.Decimal("1.25"), decimal.Decimal("0.12345678901234567890")
    await lands(nights, pa.table({"X": pa.array([whole], pa.decimal128(10, 0))}), "BIGINT", 17)
    await lands(nights, pa.table({"X": pa.array([exact], pa.decimal128(10, 2))}), "DOUBLE", 1.25)
    await lands(nights, pa.table({"X": pa.array([long], pa.decimal128(30, 20))}), "VARCHAR(255)", str(long))


@case("time, UUID")
async def _(nights):
    await lands(nights, pa.table({"X": pa.array([dt.time(12, 30)], pa.time32("s"))}), "VARCHAR(255)", "12:30:00")
    one = uuid.UUID(int=7)
    await lands(nights, pa.table({"X": pa.array([one.bytes], pa.uuid())}), "VARCHAR(255)", str(one))


@case("Parquet and Arrow integer")
async def _(nights):
    path = nights.folder / "x.parquet"
    pq.write_table(pa.table({"X": pa.array([7], pa.int16())}), path)
    await lands(nights, path, "BIGINT", 7)
    await lands(nights, pa.table({"X": pa.array([2**63], pa.uint64())}), "VARCHAR(255)", str(2**63))


@case("Parquet and Arrow boolean")
async def _(nights):
    await lands(nights, pa.table({"X": [True, None]}), "BOOLEAN", True, None)


@case("Parquet and Arrow timestamp")
async def _(nights):
    at = dt.datetime(2026, 1, 31, 10)
    zoned = pa.array([at], pa.timestamp("us", "UTC")).cast(pa.timestamp("us", "Europe/Berlin"))
    await lands(nights, pa.table({"X": zoned}), "TIMESTAMP", at)
    await lands(nights, pa.table({"X": pa.array([at], pa.timestamp("us"))}), "TIMESTAMP", at)


@case("CSV `true`/`false`, `True`/`False`, `TRUE`/`FALSE`")
async def _(nights):
    await lands(nights, "X\nTRUE\nFALSE\n", "BOOLEAN", True, False)
    await lands(nights, "X\nTRUE\nyes\n", "VARCHAR(255)", "TRUE", "yes")


@case("key column in CSV")
async def _(nights):
    options = {"mode": "upsert", "keys": ["X"]}
    await lands(nights, "X\n1.1\n1.10\n", "VARCHAR(255)", "1.1", "1.10", **options)
    alike = "X\n2026-01-31T10:00:00\n2026-01-31T11:00:00\n"
    await nights.push(alike, table="U", **options)
    await nights.push("X\n2026-01-31T10:00:00\n2026-01-31 10:00:00\n", table="V", **options)
    counts = await nights.stage.query("SELECT (SELECT count(*) FROM U), (SELECT count(*) FROM V)")
    assert counts == [(2, 2)]
    assert await nights.stage.query("SELECT typeof(X) FROM U LIMIT 1") == [("TIMESTAMP",)]


@case("nested, binary, duration")
async def _(nights):
    for column in (pa.array([[1]]), pa.array([b"x"]), pa.array([dt.timedelta(1)])):
        error = await nights.refused(pa.table({"Y": [1], "X": column}), errors.SchemaError)
        assert "column X" in str(error)


@case("no rows: append, upsert, delete")
async def _(nights):
    await nights.push("X,Y\n1,a\n")
    for mode, keys in (("append", []), ("upsert", ["X"]), ("delete", ["X"])):
        receipt = await nights.push("X,Y\n", mode=mode, keys=keys)
        assert (receipt.status, receipt.job_id, receipt.submits) == ("DONE", None, 0)
    assert await nights.rows() == [(1, "a")]


@case("no rows: replace")
async def _(nights):
    await nights.push("X,Y\n1,a\n")
    await nights.refused("X,Y\n")
    await nights.push("X,Y\n", allow_empty=True)
    assert await nights.rows() == []
    assert await nights.types() == {"X": "BIGINT", "Y": "VARCHAR(255)"}


# --- Files as people write them


async def doubtful(nights, text, *flags, **settings):
    """Push what must be refused with these flags in the message, then with the settings that they stand for."""
    error = await nights.refused(text)
    for flag in flags:
        assert flag in str(error)
    await nights.push(text, **settings)
    return await nights.rows()


@case("a first line that looks like data, a title, a web page or a ruler")
async def _(nights):
    data, title = "4500001,00010,100.5\n4500002,00020,50.5\n", "Purchase orders\nID;QTY\n1;x\n2;y\n"
    rows = [(4500001, "00010", 100.5), (4500002, "00020", 50.5)]
    assert await doubtful(nights, data, "--no-header", "--header", header=False) == rows
    assert await doubtful(nights, title, "--skip-lines 1", skip_lines=1) == [(1, "x"), (2, "y")]
    page = await nights.refused("<!DOCTYPE html>\n<html>\n<p>Sign in</p>\n</html>\n")
    assert "web page" in str(page)
    await nights.refused("---------\n|ID |QTY|\n---------\n|1  |x  |\n---------\n")


@case("one column, although another delimiter splits all rows alike")
async def _(nights):
    assert await doubtful(nights, "A:B\n1:x\n2:y\n", "--delimiter ':'", delimiter=":") == [(1, "x"), (2, "y")]
    assert await doubtful(nights, "A@@B\n1@@x\n2@@y\n", "--delimiter '@@'", delimiter="@@") == [(1, "x"), (2, "y")]


@case("such a doubt, and the table has the same columns")
async def _(nights):
    await nights.push("A:B\n1:x\n", delimiter=",")
    receipt = await nights.push("A:B\n1:x\n2:y\n")
    assert await nights.rows() == [("1:x",), ("2:y",)]
    assert any("':'" in note for note in receipt.notes)


@case("other quotes, escapes, comments, footers")
async def _(nights):
    text = "# made by X\nA,B\n1,'x,y'\n2,it\\'s\n# end\n2 rows\n"
    await nights.push(text, quote="'", escape="\\", comment="#", skip_footer=1)
    assert await nights.rows() == [(1, "x,y"), (2, "it's")]


@case("blanks around names and values")
async def _(nights):
    await nights.push("A , B\n1, x \n2,y\n")
    assert await nights.rows(columns='" B"') == [(" x ",), ("y",)]
    await nights.push('A , B\n 1, x \n2, "y "\n', trim=True, table="T")
    assert await nights.rows(columns="A, B") == [(1, "x"), (2, "y ")]


@case("columns without a name, without a value, or with the name of another")
async def _(nights):
    assert await doubtful(nights, "A,,B,\n1,,x,\n", "--empty-columns drop", empty_columns="drop") == [(1, "x")]
    assert await doubtful(nights, "A,B,\n1,x,\n", "--trailing-delimiter drop", trailing_delimiter="drop") == [(1, "x")]
    assert await doubtful(nights, "A,B,\n1,x,7\n", "--nameless rename", nameless="rename") == [(1, "x", 7)]
    await doubtful(nights, "A,A\n1,x\n", "--duplicate-names rename", duplicate_names="rename")
    assert await nights.rows(columns="A, A_2") == [(1, "x")]


@case("lists of SAP, `sep=` lines of Excel, files of Hive")
async def _(nights):
    listed = "Orders\n--------------\n|ID |NETWR   |\n--------------\n|1  |  100.00|\n|2  |   50.00|\n--------------\n|*  |  150.00|\n"
    await nights.push(listed, dialect="sap-list")
    assert await nights.rows() == [(1, 100.0), (2, 50.0)]
    assert await doubtful(nights, "sep=;\nA;B\n1;x\n", "--dialect excel", dialect="excel") == [(1, "x")]
    assert await doubtful(nights, "A\x01B\n1\x01\\N\n", "--dialect hive", dialect="hive") == [(1, None)]


async def noted(nights, text, *flags):
    """Push what becomes text, and a note names these flags."""
    receipt = await nights.push(text)
    for flag in flags:
        assert any(flag in note for note in receipt.notes), receipt.notes


@case("`1.050,25`, `100,00-`")
async def _(nights):
    text = "K;X\na;1.050,25\nb;100,00-\n"
    await noted(nights, text, "--decimal , --thousands .")
    await nights.push(text, decimal=",", thousands=".")
    assert await nights.rows(columns="X") == [("1.050,25",), ("100,00-",)]  # the table keeps its type
    await nights.push(text, decimal=",", thousands=".", table="U")
    await nights.push(text, locale="de", table="V")
    both = await nights.stage.query("SELECT (SELECT list(X) FROM U), (SELECT list(X) FROM V)")
    assert both == [([1050.25, -100.0], [1050.25, -100.0])]


@case("`31.01.2024`, `01/31/2024`")
async def _(nights):
    text = "K,X,Y\na,31.01.2024,01/31/2024\n"
    await noted(nights, text, "X looks like dd.mm.yyyy", "mm/dd/yyyy")
    await nights.push(text, date_format=["dd.mm.yyyy", "Y=mm/dd/yyyy"], table="U")
    at = dt.datetime(2024, 1, 31)
    assert await nights.stage.query("SELECT X, Y FROM U") == [(at, at)]


@case("`20240131`, `00000000`")
async def _(nights):
    text = "K,X\na,20240131\nb,00000000\n"
    await nights.push("K,X\na,20240131\n")
    assert await nights.types() == {"K": "VARCHAR(255)", "X": "BIGINT"}
    for table, options in (("U", {"date_format": "yyyymmdd", "zero_date_null": True}), ("V", {"locale": "sap"})):
        await nights.push(text, table=table, **options)
        assert await nights.stage.query(f"SELECT X FROM {table} ORDER BY K") == [(dt.datetime(2024, 1, 31),), (None,)]


@case("`NULL`, `\\N`, `N/A`")
async def _(nights):
    text = "K,X\na,5\nb,N/A\n"
    await noted(nights, text, "--null N/A")
    await nights.push("K,X\na,5\nb,N/A\nc,NULL\nd,\\N\n", null=["NULL", "\\N", "N/A"], table="U")
    assert await nights.stage.query("SELECT X FROM U ORDER BY K") == [(5,), (None,), (None,), (None,)]
    await nights.push('K,X\na,"N/A"\nb,N/A\n', null="N/A", table="V")
    assert await nights.stage.query("SELECT X FROM V ORDER BY K") == [("N/A",), (None,)]


@case("times finer than a microsecond")
async def _(nights):
    fine = "2024-01-31 10:00:00.1234567"
    cut = [(dt.datetime(2024, 1, 31, 10, 0, 0, 123456),)]
    assert await doubtful(nights, f"X\n{fine}\n", "--subsecond cut", subsecond="cut") == cut
    receipt = await nights.push(pa.table({"X": pa.array([fine + "00"]).cast(pa.timestamp("ns"))}))
    assert await nights.rows() == cut
    assert any("cut to microseconds" in note for note in receipt.notes)


@case("gzip, zip, xlsx or Parquet in a file called `.csv`")
async def _(nights):
    path = nights.folder / "x.csv"
    path.write_bytes(gzip.compress(b"A,B\n1,x\n"))
    await nights.push(path)
    assert await nights.rows() == [(1, "x")]
    pq.write_table(pa.table({"A": [1]}), path)
    assert "--format parquet" in str(await nights.refused(path, errors.PushEngineError))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.csv", "A\n1\n")
    assert "zip" in str(await nights.refused(path, errors.PushEngineError))


@case("UTF-16 without a byte order mark, text that is not UTF-8")
async def _(nights):
    path = nights.folder / "x.csv"
    path.write_bytes("A,B\n1,x\n".encode("utf-16-le"))
    assert "--encoding utf-16-le" in str(await nights.refused(path))
    await nights.push(path, encoding="utf-16-le")
    assert await nights.rows() == [(1, "x")]
    path.write_bytes("A,B\n1,M\xfcller\n".encode("cp1252"))
    assert "--encoding cp1252" in str(await nights.refused(path))
    await nights.push(path, encoding="cp1252")
    assert await nights.rows() == [(1, "M\xfcller")]


@case("one file under two names, or beside its compressed copy")
async def _(nights):
    path, link, copy = (nights.folder / name for name in ("x.csv", "y.csv", "x.csv.gz"))
    path.write_text("A\n1\n")
    link.symlink_to(path)
    copy.write_bytes(gzip.compress(path.read_bytes()))
    for other in (link, copy):
        await nights.refused([path, other], errors.ConfigError)


@case("rows that cannot be loaded")
async def _(nights):
    text = "K,X\n1,a\n2,b,c\n3,d\n"
    error = await nights.refused(text)
    assert "line 3" in str(error)
    receipt = await nights.push(text, max_rejects=1)
    assert await nights.rows() == [(1, "a"), (3, "d")]
    assert receipt.rejects["rows"] == 1
    assert "2,b,c" in Path(receipt.rejects["file"]).read_text()


# --- Tables that exist


@case("append, upsert: a value does not fit the column")
async def _(nights):
    await nights.push("X,Y\n1001,a\n")
    for options in ({"mode": "append"}, {"mode": "upsert", "keys": ["Y"]}):
        error = await nights.refused("X,Y\n0007,b\n", **options)
        assert re.search(r"night\d+\.csv, row 1 \(line 2\), column X.*--column X=INTEGER", str(error))


@case("append, upsert: text for a STRING column, whole numbers below 2**53 for a FLOAT column, an empty column")
async def _(nights):
    await nights.push("S,F,D,N\n093000,1.5,2026-01-31,1\n")
    await nights.push("S,F,D,N\n143000,9007199254740991,,\n", mode="append")
    assert (await nights.rows())[-1] == ("143000", 9007199254740991.0, None, None)
    await nights.refused("S,F,D,N\n1,9007199254740993,,\n", mode="append")


@case("append, upsert: typed integers and decimals for a STRING column")
async def _(nights):
    await nights.push("A,B\n007,008\n")
    await nights.push(pa.table({"A": [7], "B": pa.array([decimal.Decimal("1.50")])}), mode="append")
    assert (await nights.rows())[-1] == ("7", "1.50")
    await nights.refused(pa.table({"A": [7.5], "B": ["x"]}), mode="append")


@case("append, upsert: a string longer than its column")
async def _(nights):
    await nights.push("K,X\n1,a\n")
    error = await nights.refused(f"K,X\n2,{'y' * 256}\n", mode="append")
    assert "column X of the table holds 255" in str(error)
    await nights.push(f"K,X\n2,{'y' * 256}\n", mode="append", on_longer_string="send")


@case("append, upsert: naive date-times for a column of instants, or the reverse")
async def _(nights):
    await nights.push("Z,N\n2026-01-31T10:00:00Z,2026-01-31T10:00:00\n")
    for row in ("2026-01-31T10:00:00,2026-01-31T10:00:00", "2026-01-31T10:00:00Z,2026-01-31T10:00:00Z"):
        assert "time zone" in str(await nights.refused(f"Z,N\n{row}\n", mode="append"))


@case("replace: every value fits the column")
async def _(nights):
    await nights.push("X\n0007\n")
    assert (await nights.push("X\n4711\n")).schema_changes == ()
    await lands(nights, "X\n4712\n", "VARCHAR(255)", "4712")


@case("replace: a value does not fit")
async def _(nights):
    told = [(await nights.push(f"X\n{value}\n")).schema_changes for value in ("1", "1.5", "x")]
    assert told == [(), ("X INTEGER -> FLOAT",), ("X FLOAT -> STRING(255)",)]


@case("replace: lengths")
async def _(nights):
    await nights.push(f"X\n{'y' * 100}\n")
    await nights.push("X\ny\n")
    assert await nights.types() == {"X": "VARCHAR(400)"}


@case("a column that the table lacks (`new_columns`)")
async def _(nights):
    await nights.push("K\n1\n")
    await nights.refused("K,NEW\n2,x\n", mode="append")
    await nights.refused("K,NEW\n2,x\n", new_columns="refuse")
    receipt = await nights.push("K,NEW\n2,x\n", mode="append", new_columns="ignore")
    assert receipt.schema_changes == ("NEW: not in the table, left out",)
    assert (await nights.push("K,NEW\n3,x\n")).schema_changes == ("NEW STRING(255): new column",)
    assert await nights.rows() == [(3, "x")]


@case("a column that the source lacks (`missing_columns`)")
async def _(nights):
    await nights.push("K,A,B\n1,x,y\n")
    await nights.refused("K,A\n2,x\n", missing_columns="refuse")
    await nights.push("K,A\n2,x\n", mode="append")
    await nights.push("K,A\n3,x\n")
    assert await nights.rows(columns="K, A, B") == [(3, "x", None)]
    await nights.push("K,A\n4,x\n", exclude=["B"])
    assert await nights.rows() == [(4, "x")]


@case("one column new and one missing")
async def _(nights):
    await nights.push("K,OLD\n1,x\n")
    error = await nights.refused("K,NEW\n2,y\n", mode="append")
    assert "was OLD renamed to NEW? --rename NEW=OLD" in str(error)
    await nights.push("K,NEW\n2,y\n", mode="append", rename={"NEW": "OLD"})
    assert await nights.rows() == [(1, "x"), (2, "y")]


@case("other keys than those of earlier upserts")
async def _(nights):
    await nights.push("K,L,A\n1,1,x\n1,2,y\n", mode="upsert", keys=["K", "L"])
    await nights.refused("K,L,A\n1,3,z\n", mode="upsert", keys=["K"], drift="freeze")
    receipt = await nights.push("K,L,A\n1,3,z\n", mode="upsert", keys=["K"])
    assert receipt.schema_changes == ("keys: K, L -> K",)
    assert await nights.rows() == [(1, 3, "z")]


@case("delete")
async def _(nights):
    await nights.push("K,A\n1,x\n2,y\n")
    await nights.push("K,A,OTHER\n1,not read,\n", mode="delete", keys=["K"])
    assert await nights.rows() == [(2, "y")]


@case("two rows of one upsert with equal keys (`duplicate_keys`)")
async def _(nights):
    source, options = "K,A\n1,x\n1,y\n2,z\n2,z\n", {"mode": "upsert", "keys": ["K"]}
    error = await nights.refused(source, **options)
    assert re.search(r"row 2.* row 1 ", str(error))
    await nights.push(source, duplicate_keys="last", **options)
    assert await nights.rows() == [(1, "y"), (2, "z")]
    await nights.push(source, duplicate_removal_column="A", **options)
    await nights.push("K,A\n3,z\n3,z\n", **options)
    assert await nights.rows() == [(1, "y"), (2, "z"), (3, "z")]


@case("replace: fewer rows than `min_rows`, or a larger share lost than `max_drop`")
async def _(nights):
    await nights.push("K\n1\n2\n3\n4\n")
    await nights.refused("K\n1\n", min_rows=2)
    await nights.refused("K\n1\n", max_drop=0.5)
    await nights.push("K\n1\n2\n", max_drop=0.5)
    assert await nights.rows() == [(1,), (2,)]
