"""CSV chunks."""

import datetime as dt

import pytest


def columns(**types):
    return {"tableName": "t", "columns": [{"columnName": n, "columnType": t} for n, t in types.items()]}


async def load_csv(team, content, options=None, schema=None, **fields):
    return await team.load("t", content, fileType="CSV", csvParsingOptions=options, tableSchema=schema, **fields)


async def test_quotes_newlines_and_empty_fields(team):
    content = 'a,b\r\n"x, ""y""\r\nz",1\r\n,\r\n"",ü\r\n'.encode()
    assert (await load_csv(team, content))["status"] == "DONE"
    assert await team.rows("SELECT a, b FROM t") == [('x, "y"\r\nz', "1"), (None, None), ("", "ü")]


async def test_every_parsing_option(team):
    options = {
        "charSet": "ISO-8859-1",
        "separatorSequence": ";",
        "quoteSequence": "'",
        "escapeSequence": "\\",
        "lineEnding": "\r\n",
        "decimalSeparator": ",",
        "thousandSeparator": ".",
        "dateFormat": "yyyy-MM-dd'T'HH:mm:ss.SSSXXX",
        "additionalColumnOptions": [{"columnName": "DAY", "dateFormat": "dd.MM.yyyy"}],
    }
    schema = columns(name="STRING", amount="FLOAT", n="INTEGER", at="DATETIME", day="DATE", ok="BOOLEAN", t="TIME")
    content = (
        "name;amount;n;at;day;ok;t\r\n"
        "'J\\'ür;gen';1.234,5;1.000;2020-01-02T03:04:05.678+02:00;31.12.2020;true;01:02:03\r\n"
        "x;;;2020-01-02T03:04:05.678Z;;;\r\n"
    ).encode("latin-1")
    job = await load_csv(team, content, options, schema)
    assert job["status"] == "DONE", job["logs"]
    first, second = await team.rows("SELECT * EXCLUDE _CELONIS_CHANGE_DATE FROM t")
    at = dt.datetime(2020, 1, 2, 3, 4, 5, 678_000)
    shifted = at - dt.timedelta(hours=2)
    assert first == ("J'ür;gen", 1234.5, 1000, shifted, dt.date(2020, 12, 31), True, dt.time(1, 2, 3))
    assert second == ("x", None, None, at, None, None, None)


async def test_columns_match_the_schema_by_name(team):
    assert (await load_csv(team, b"B,A\n2,1\n", schema=columns(a="INTEGER", b="STRING")))["status"] == "DONE"
    assert await team.rows("SELECT a, b FROM t") == [(1, "2")]


async def test_keys_and_truncation_work_as_with_parquet(team):
    await load_csv(team, b"id,v\n01,old\n", kind="DELTA", keys=["id"])
    await load_csv(team, b"id,v\n01,longer\n1,other\n", kind="DELTA", keys=["id"], fallbackVarcharLength=3)
    assert await team.rows("SELECT id, v FROM t ORDER BY v") == [("01", "longer"), ("1", "other")]


async def test_a_file_with_only_a_header_has_no_rows(team):
    assert (await load_csv(team, b"a,b\n"))["status"] == "DONE"
    assert await team.rows("SELECT count(*) FROM t") == [(0,)]


async def test_a_byte_order_mark_is_not_part_of_a_column_name(team):
    await load_csv(team, b"\xef\xbb\xbfa\nx\n")
    assert await team.rows("SELECT a FROM t") == [("x",)]


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", {}),
        (b"a,b\n1\n", {}),
        (b"a,b\n1,2,3\n", {}),
        (b'a,b\n"1,2\n', {}),
        (b"a,b\n\xff,2\n", {}),
        (b"a,A\n1,2\n", {}),
        (b"a,\n1,2\n", {}),
        (b"a,b\n1,2\n", {"tableSchema": columns(a="INTEGER")}),
        (b"a\n1\n", {"tableSchema": columns(a="INTEGER", b="INTEGER")}),
        (b"a,b\n1,2\n", {"kind": "DELTA", "keys": ["id"]}),
        (b"id,b\n1,2\n,3\n", {"kind": "DELTA", "keys": ["id"]}),
    ],
    ids=[
        "empty",
        "short row",
        "long row",
        "unclosed quote",
        "wrong encoding",
        "duplicate names",
        "empty name",
        "extra column",
        "missing column",
        "missing key column",
        "null in key column",
    ],
)
async def test_a_file_that_does_not_parse_or_match_is_400(team, content, fields):
    job_id = await team.new_job(fileType="CSV", **fields)
    response = await team.upload(job_id, content)
    assert response.status == 400
    assert response.json["message"]
    assert await team.chunks(job_id) == []


@pytest.mark.parametrize(
    ("kind", "value", "options"),
    [
        ("INTEGER", "1.5", {}),
        ("INTEGER", "9223372036854775808", {}),
        ("FLOAT", "1,5", {}),
        ("BOOLEAN", "perhaps", {}),
        ("DATETIME", "yesterday", {}),
        ("DATETIME", "01.02.2020", {"dateFormat": "yyyy-MM-dd"}),
        ("DATETIME", "2020", {"dateFormat": "qqq"}),
    ],
)
async def test_a_value_that_does_not_fit_fails_the_job(team, kind, value, options):
    job = await load_csv(team, f'a\n"{value}"\n'.encode(), options, columns(a=kind))
    assert job["status"] == "ERROR"
    assert await team.rows("SELECT count(*) FROM information_schema.tables") == [(0,)]


async def test_a_csv_job_rejects_parquet_and_a_parquet_job_rejects_csv(team, to_parquet):
    assert (await team.upload(await team.new_job(fileType="CSV"), to_parquet({"a": [1]}))).status == 400
    assert (await team.upload(await team.new_job(), b"a\n1\n")).status == 400


async def test_files_are_appended_to_a_table_that_exists(team):
    await team.load("t", b"a\nold\n", fileType="CSV")
    job = await team.load("t", b"a\nnew\n", b"a\nnewer\n", kind="DELTA", fileType="CSV")
    assert job["status"] == "DONE", job["logs"]
    assert await team.rows("SELECT a FROM t") == [("old",), ("new",), ("newer",)]


UNTERMINATED = {
    "value": b'a,b\n1,"x\n2,3\n',
    "value-without-last-line-end": b'a,b\n1,"x\n2,3',
    "after-a-doubled-quote": b'a,b\n1,"x\n""\n',
    "one-column": b'a\n"1\n\n',
    "at-the-end": b'a\n1\n"',
}
TERMINATED = {
    "line-end-in-value": (b'a,b\n1,"x\n"\n', [("1", "x\n")]),
    "no-last-line-end": (b'a,b\n1,"x"', [("1", "x")]),
    "doubled-quote": (b'a\n"1"""', [('1"',)]),
    "quote-within-a-value": (b'a,b\n1,5" pipe\n', [("1", '5" pipe')]),
    "empty-lines": (b"a\n1\n\n", [("1",), (None,)]),
}


@pytest.mark.parametrize("content", UNTERMINATED.values(), ids=UNTERMINATED)
async def test_a_quote_that_is_never_closed_is_refused(team, content):
    job_id = await team.new_job(fileType="CSV")
    response = await team.upload(job_id, content)
    assert (response.status, response.json["message"]) == (400, "The CSV file ends inside of a quoted value.")
    assert team.spool_files() == []


@pytest.mark.parametrize(("content", "rows"), TERMINATED.values(), ids=TERMINATED)
async def test_quotes_that_are_closed_are_not_refused(team, content, rows):
    assert (await load_csv(team, content))["status"] == "DONE"
    assert await team.rows("SELECT * EXCLUDE _CELONIS_CHANGE_DATE FROM t") == rows


@pytest.mark.parametrize(
    "charset", ["UTF-8", "UTF-16", "UTF-16LE", "UTF-16BE", "UTF-32", "windows-1252", "IBM037", "Shift_JIS"]
)
async def test_an_open_quote_is_found_in_every_charset(team, charset):
    for content, status in (('a,b\n1,"x"\n', 200), ('a,b\n1,"x\n', 400), ('a,b\n1,"x"', 200)):
        job_id = await team.new_job(fileType="CSV", csvParsingOptions={"charSet": charset})
        assert (await team.upload(job_id, content.encode(charset))).status == status


async def test_an_open_quote_is_found_with_an_escape_character(team):
    options = {"escapeSequence": "\\", "separatorSequence": "x", "quoteSequence": "'"}
    for content, status in ((b"axb\n1x'\\'\n", 400), (b"axb\n1x'\\''\n", 200), (b"axb\n1x2\\", 400)):
        job_id = await team.new_job(fileType="CSV", csvParsingOptions=options)
        assert (await team.upload(job_id, content)).status == status
