"""Uploading chunks: the form, the file, and what is rejected while the client waits."""

import asyncio
import base64
import datetime as dt
import hashlib
import zlib

import pyarrow as pa
import pytest

ROWS = {"id": [1], "text": ["x"]}
CONTENT_TYPE = "multipart/form-data; boundary=contract-boundary"


async def post_form(team, job_id, body, content_type=CONTENT_TYPE):
    headers = team.headers | {"Content-Type": content_type}
    return await team.request("POST", f"{team.jobs_path}{job_id}/chunks/upserted", data=body, headers=headers)


async def test_an_uploaded_chunk_is_returned_and_listed(team, to_parquet):
    job_id = await team.new_job("orders", "DELTA", keys=["id"])
    content = to_parquet(ROWS)
    first = (await team.upload(job_id, content)).json
    second = (await team.upload(job_id, {"id": [2]}, "deleted")).json
    assert await team.chunks(job_id) == [first, second]
    assert (first["type"], second["type"], first["pushJobId"]) == ("UPSERT", "DELETE", job_id)
    assert first["checksum"] == hashlib.md5(content).hexdigest()
    assert dt.datetime.fromisoformat(first["creationDate"])


async def test_the_response_to_an_upload_may_have_no_body(start):
    team = await start(upload_returns_chunk=False)
    response = await team.upload(await team.new_job(), ROWS)
    assert (response.status, response.content) == (200, b"")


@pytest.mark.parametrize(
    ("checksum", "encoding", "expected"),
    [
        ("md5", "hex", lambda data: hashlib.md5(data).hexdigest()),
        ("sha1", "hex", lambda data: hashlib.sha1(data).hexdigest()),
        ("sha256", "base64", lambda data: base64.b64encode(hashlib.sha256(data).digest()).decode()),
        ("crc32", "hex", lambda data: f"{zlib.crc32(data):08x}"),
        ("crc32", "base64", lambda data: base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()),
    ],
)
async def test_checksum_algorithm_and_encoding_are_switches(start, to_parquet, checksum, encoding, expected):
    team = await start(checksum=checksum, checksum_encoding=encoding)
    content = to_parquet(ROWS)
    assert (await team.upload(await team.new_job(), content)).json["checksum"] == expected(content)


async def test_an_opaque_checksum_does_not_depend_on_the_bytes(start, to_parquet):
    team = await start(checksum="opaque")
    job_id = await team.new_job()
    checksums = [(await team.upload(job_id, to_parquet(ROWS))).json["checksum"] for _ in range(2)]
    assert checksums[0] != checksums[1]


async def test_a_checksum_may_cover_the_whole_body(start, to_parquet, to_form):
    team = await start(checksum_covers="body")
    content = to_parquet(ROWS)
    assert (await team.upload(await team.new_job(), content)).json["checksum"] == hashlib.md5(
        to_form(content)
    ).hexdigest()


async def test_the_chunk_list_may_lag(start, clock):
    team = await start(now=clock, chunk_list_lag_seconds=5)
    job_id = await team.new_job()
    await team.upload(job_id, ROWS)
    assert await team.chunks(job_id) == []
    clock.now += 5
    assert len(await team.chunks(job_id)) == 1


async def test_a_large_file_arrives_byte_for_byte(team, to_parquet):
    content = to_parquet({"a": list(range(1_000_000))}, compression="none", use_dictionary=False)
    assert len(content) > 7_000_000
    job_id = await team.new_job()
    assert (await team.upload(job_id, content)).json["checksum"] == hashlib.md5(content).hexdigest()
    assert [path.read_bytes() == content for path in team.spool_files()] == [True]


async def test_a_caller_may_wait_for_100_continue(team):
    job_id = await team.new_job()
    assert (await team.upload(job_id, ROWS, expect100=True)).status == 200
    assert (await team.submit(job_id, json={}, expect100=True)).status == 200
    assert (await team.settled(job_id))["status"] == "DONE"


# The form


@pytest.mark.parametrize(
    "content_type", ["application/octet-stream", "multipart/form-data", "multipart/mixed; boundary=b", ""]
)
async def test_a_body_that_is_not_a_form_is_400(team, to_parquet, content_type):
    job_id = await team.new_job()
    assert (await post_form(team, job_id, to_parquet(ROWS), content_type)).status == 400


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b'name="file"', b'name="data"'),
        lambda body: body.replace(b"form-data; name", b"form-data; nome"),
        lambda body: body.replace(b"boundary--\r\n", b"boundary\r\n"),
        lambda body: body[: -len(b"\r\n--contract-boundary--\r\n")],
        lambda body: body[:-4],
        lambda body: body.replace(b"boundary--", b"boundary\r\n\r\nx\r\n--contract-boundary--"),
        lambda _: b"--contract-boundary--\r\n",
        lambda _: b"",
        lambda _: b"PAR1" * 10_000,
    ],
    ids=[
        "wrong name",
        "no name",
        "last delimiter does not close",
        "no closing delimiter",
        "closing delimiter cut off",
        "two parts",
        "no part",
        "empty",
        "no form",
    ],
)
async def test_a_malformed_form_stores_nothing(team, to_parquet, to_form, change):
    job_id = await team.new_job()
    response = await post_form(team, job_id, change(to_form(to_parquet(ROWS))))
    assert response.status == 400, response.content
    assert set(response.json) == {"reference", "message", "shortMessage"}
    assert await team.chunks(job_id) == []
    assert team.spool_files() == []


async def test_the_form_may_arrive_in_pieces_of_any_size(team, to_parquet, to_form):
    """Delimiters are found wherever the network splits them, and similar bytes are not mistaken for one."""
    job_id = await team.new_job()
    content = to_parquet({"a": ["\r\n--contract-boundar", "\r\n--contract-boundar\r\n--"]}, compression="none")
    body = b"preamble\r\n" + to_form(content) + b"epilogue"

    async def pieces():
        for index in range(len(body)):
            yield body[index : index + 1]

    response = await post_form(team, job_id, pieces())
    assert response.json["checksum"] == hashlib.md5(content).hexdigest()


@pytest.mark.parametrize("cut_at", [0, 1, 100, 5_000, 100_000])
async def test_a_body_that_is_cut_off_stores_nothing(team, to_parquet, to_form, cut_at):
    job_id = await team.new_job()
    body = to_form(to_parquet({"a": list(range(50_000))}))
    _, writer = await asyncio.open_connection("127.0.0.1", team.emulator.port)
    head = (
        f"POST {team.jobs_path}{job_id}/chunks/upserted HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
        f"Content-Type: {CONTENT_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body[:cut_at])
    await writer.drain()
    if cut_at:
        async with asyncio.timeout(5):
            while not team.spool_files():
                await asyncio.sleep(0.002)
    writer.transport.abort()
    async with asyncio.timeout(5):
        while team.spool_files():
            await asyncio.sleep(0.002)
    assert await team.chunks(job_id) == []


async def test_a_chunk_above_the_size_limit_is_413(start, to_parquet):
    content = to_parquet(ROWS)
    exact = await start(max_chunk_bytes=len(content))
    assert (await exact.upload(await exact.new_job(), content)).status == 200
    small = await start(max_chunk_bytes=len(content) - 1)
    job_id = await small.new_job()
    assert (await small.upload(job_id, content)).status == 413
    assert small.spool_files() == []


async def test_a_body_declared_far_above_the_limit_is_rejected_unread(start):
    team = await start(max_chunk_bytes=1000)
    assert (await team.upload(await team.new_job(), bytes(300_000))).status == 413


async def test_parallel_uploads_all_arrive(team):
    job_id = await team.new_job()
    responses = await asyncio.gather(*(team.upload(job_id, {"a": [number]}) for number in range(20)))
    assert {response.status for response in responses} == {200}
    await team.submit(job_id)
    await team.settled(job_id)
    assert await team.rows("SELECT a FROM orders ORDER BY a") == [(number,) for number in range(20)]


async def test_an_upload_that_ends_after_the_submit_is_409(team, to_parquet, to_form):
    job_id = await team.new_job()
    await team.upload(job_id, ROWS)
    submitted = asyncio.Event()
    body = to_form(to_parquet(ROWS))

    async def pieces():
        yield body[:-1000]
        await submitted.wait()
        yield body[-1000:]

    upload = asyncio.create_task(post_form(team, job_id, pieces()))
    async with asyncio.timeout(5):
        while len(team.spool_files()) < 2:
            await asyncio.sleep(0.002)
    await team.submit(job_id)
    submitted.set()
    assert (await upload).status == 409
    assert (await team.settled(job_id))["status"] == "DONE"
    assert await team.rows("SELECT count(*) FROM orders") == [(1,)]


# The file

REJECTED_COLUMNS = {
    "list": pa.array([[1]]),
    "struct": pa.array([{"x": 1}]),
    "decimal": pa.array([1], pa.decimal128(10, 2)),
    "null": pa.nulls(1),
    "unsigned": pa.array([1], pa.uint32()),
    "unsigned 64": pa.array([1], pa.uint64()),
    "time": pa.array([dt.time(1)]),
    "binary": pa.array([b"x"]),
    "fixed binary": pa.array([b"x"], pa.binary(1)),
    "half": pa.array([1.0], pa.float16()),
    "date": pa.array([dt.date(2020, 1, 1)]),
}


@pytest.mark.parametrize("name", list(REJECTED_COLUMNS))
async def test_types_not_known_to_work_are_rejected(team, name):
    job_id = await team.new_job()
    response = await team.upload(job_id, {"good": [1], "bad": REJECTED_COLUMNS[name]})
    assert response.status == 400
    assert "'bad'" in response.json["message"]
    assert team.spool_files() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        (pa.array([1], pa.int8()), 1),
        (pa.array([1], pa.int32()), 1),
        (pa.array([2**63 - 1], pa.int64()), 2**63 - 1),
        (pa.array([0.5], pa.float32()), 0.5),
        (pa.array([True]), True),
        (pa.array(["x"], pa.large_string()), "x"),
        (pa.array(["x"]).dictionary_encode(), "x"),
        (pa.array([dt.datetime(2020, 1, 1)], pa.timestamp("ns")), dt.datetime(2020, 1, 1)),
        (pa.array([None], pa.string()), None),
    ],
    ids=str,
)
async def test_types_clients_are_known_to_send_are_accepted(team, column, value):
    job = await team.load("orders", {"a": column})
    assert job["status"] == "DONE"
    assert await team.rows("SELECT a FROM orders") == [(value,)]


STORAGE = {
    "zstd": ({"compression": "zstd"}, {"accepted_codecs": frozenset({"ZSTD"})}),
    "gzip": ({"compression": "gzip"}, {"accepted_codecs": frozenset({"GZIP"})}),
    "int64 timestamps": ({"use_deprecated_int96_timestamps": False}, {"accepts_int64_timestamps": True}),
    "data page v2": ({"data_page_version": "2.0"}, {"accepts_data_page_v2": True}),
}


@pytest.mark.parametrize("name", list(STORAGE))
async def test_parquet_features_are_switches(start, to_parquet, name):
    options, settings = STORAGE[name]
    timestamp = dt.datetime(2020, 1, 2, 3, 4, 5, 678901)
    content = to_parquet({"ts": pa.array([timestamp], pa.timestamp("us", "UTC"))}, **options)
    strict, open_ = await start(), await start(**settings)
    assert (await strict.upload(await strict.new_job(), content)).status == 400
    assert (await open_.load("orders", content))["status"] == "DONE"
    assert await open_.rows("SELECT ts FROM orders") == [(timestamp,)]


async def test_dates_are_a_switch(start):
    team = await start(accepts_dates=True)
    await team.load("orders", {"day": [dt.date(1400, 1, 1), dt.date(9999, 12, 31)]})
    assert await team.rows("SELECT day FROM orders") == [(dt.date(1400, 1, 1),), (dt.date(9999, 12, 31),)]


async def test_uncompressed_parquet_is_accepted(team, to_parquet):
    assert (await team.load("orders", to_parquet(ROWS, compression="none")))["status"] == "DONE"


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all", b"PAR1" + bytes(100) + b"PAR1"])
async def test_a_file_that_is_not_parquet_is_400(team, content):
    job_id = await team.new_job()
    response = await team.upload(job_id, content)
    assert response.status == 400
    assert await team.chunks(job_id) == []


async def test_a_truncated_parquet_file_is_400(team, to_parquet):
    assert (await team.upload(await team.new_job(), to_parquet(ROWS)[:-10])).status == 400


async def test_a_file_without_rows_is_accepted(team):
    job = await team.load("orders", {"a": pa.array([], pa.int64())})
    assert job["status"] == "DONE"
    assert await team.rows("SELECT count(*) FROM orders") == [(0,)]


@pytest.mark.parametrize(
    "other",
    [{"id": [1]}, {"id": [1], "text": ["x"], "more": [1]}, {"id": [1], "text": [2]}, {"id": [1], "Text": ["x"]}],
    ids=["missing", "additional", "type", "case"],
)
async def test_all_chunks_of_a_job_have_one_schema(team, other):
    job_id = await team.new_job()
    await team.upload(job_id, ROWS)
    response = await team.upload(job_id, other)
    assert response.status == 400
    assert "schema" in response.json["message"]
    assert len(await team.chunks(job_id)) == 1


@pytest.mark.parametrize("names", [("a", "A"), ("a", "_celonis_change_date"), ("ä", "Ä")])
async def test_columns_that_differ_in_case_only_are_rejected(team, names):
    response = await team.upload(await team.new_job(), {name: [1] for name in names})
    assert response.status == 400
    assert "DUPLICATE_COLUMN_DETECTED" in response.json["message"]


@pytest.mark.parametrize("kind", ["upserted", "deleted"])
@pytest.mark.parametrize("data", [{"text": ["x"]}, {"id": pa.array([1, None])}], ids=["missing", "null"])
async def test_key_columns_must_be_present_and_not_null(team, kind, data):
    job_id = await team.new_job("orders", "DELTA", keys=["ID"])
    response = await team.upload(job_id, data, kind)
    assert response.status == 400
    assert "key" in response.json["message"]


@pytest.mark.parametrize("fields", [{"kind": "REPLACE", "keys": ["id"]}, {"kind": "DELTA"}], ids=["replace", "no keys"])
async def test_only_delta_jobs_with_keys_can_delete_rows(team, fields):
    assert (await team.upload(await team.new_job(**fields), ROWS, "deleted")).status == 400


def schema(**columns):
    return {"tableName": "orders", "columns": [{"columnName": n, "columnType": t} for n, t in columns.items()]}


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"ID": "INTEGER", "Text": "STRING"}, 200),
        ({"id": "FLOAT", "text": "STRING"}, 200),
        ({"id": "INTEGER"}, 400),
        ({"id": "INTEGER", "text": "STRING", "more": "STRING"}, 400),
        ({"id": "STRING", "text": "STRING"}, 400),
        ({"id": "INTEGER", "text": "INTEGER"}, 400),
        ({"id": "DATETIME", "text": "STRING"}, 400),
    ],
)
async def test_a_file_must_match_the_declared_table_schema(team, columns, status):
    job_id = await team.new_job(tableSchema=schema(**columns))
    assert (await team.upload(job_id, ROWS)).status == status
