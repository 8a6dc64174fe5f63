"""Creating, listing, reading and deleting jobs."""

from datetime import datetime

import pytest

ROWS = {"a": [1]}


async def test_a_created_job_is_new_and_has_the_requested_fields(team):
    response = await team.create(
        "orders", "DELTA", keys=["id"], connectionId="c1", upsertStrategy="UPSERT_WITH_NULLIFICATION"
    )
    job = response.json
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("application/json")
    assert (job["targetName"], job["type"], job["keys"], job["connectionId"]) == ("orders", "DELTA", ["id"], "c1")
    assert (job["status"], job["fileType"], job["logs"], job["dataPoolId"]) == ("NEW", "PARQUET", [], "pool-1")
    assert datetime.fromisoformat(job["lastModified"])


async def test_create_may_respond_with_201_and_no_body(start):
    team = await start(create_returns_body=False)
    response = await team.create()
    assert (response.status, response.content) == (201, b"")
    jobs = (await team.request("GET", team.jobs_path)).json
    assert [job["targetName"] for job in jobs] == ["orders"]


async def test_datetimes_may_be_epoch_milliseconds(start, clock):
    team = await start(datetime_format="epoch_ms", now=clock)
    assert (await team.create()).json["lastModified"] == int(clock.now * 1000)


async def test_unknown_fields_are_ignored_silently(team):
    response = await team.create(dataConnectionId="c1", csvParsingOptions={"columnSeparator": ";"})
    assert response.status == 200
    assert response.json["connectionId"] is None


@pytest.mark.parametrize(
    ("fields", "attribute"),
    [
        ({"targetName": None}, "targetName"),
        ({"targetName": "  "}, "targetName"),
        ({"targetName": 5}, "targetName"),
        ({"type": None}, "type"),
        ({"type": "UPSERT"}, "type"),
        ({"fileType": "JSON"}, "fileType"),
        ({"keys": "id"}, "keys"),
        ({"keys": [1]}, "keys"),
        ({"keys": ["id", "ID"]}, "keys"),
        ({"dataPoolId": "another"}, "dataPoolId"),
        ({"upsertStrategy": "REPLACE_ALL"}, "upsertStrategy"),
        ({"fallbackVarcharLength": 0}, "fallbackVarcharLength"),
        ({"fallbackVarcharLength": 65_001}, "fallbackVarcharLength"),
        ({"fallbackVarcharLength": True}, "fallbackVarcharLength"),
        ({"allowDuplicate": "yes"}, "allowDuplicate"),
        ({"tableSchema": []}, "tableSchema"),
        ({"tableSchema": {"columns": [{}]}}, "tableSchema.columns[0].columnName"),
        ({"tableSchema": {"columns": [{"columnName": "a"}]}}, "tableSchema.columns[0].columnType"),
        (
            {"tableSchema": {"columns": [{"columnName": "a", "columnType": "DECIMAL"}]}},
            "tableSchema.columns[0].columnType",
        ),
        (
            {"tableSchema": {"columns": [{"columnName": "a", "columnType": "STRING", "fieldLength": 16_251}]}},
            "tableSchema.columns[0].fieldLength",
        ),
        ({"csvParsingOptions": {"separatorSequence": "||"}}, "csvParsingOptions.separatorSequence"),
        ({"csvParsingOptions": {"charSet": "klingon"}}, "csvParsingOptions.charSet"),
        ({"csvParsingOptions": {"charSet": "undefined"}}, "csvParsingOptions.charSet"),
        ({"csvParsingOptions": {"lineEnding": ";"}}, "csvParsingOptions.lineEnding"),
        ({"csvParsingOptions": {"additionalColumnOptions": [{}]}}, "csvParsingOptions.additionalColumnOptions"),
    ],
)
async def test_an_error_names_the_invalid_field(team, fields, attribute):
    response = await team.create(**fields)
    assert response.status == 400
    error = response.json["errors"][0]
    assert error["attribute"] == attribute
    assert set(error) == {"attribute", "error", "errorCode", "additionalInfo"}


async def test_columns_that_differ_in_case_only_are_duplicates(team):
    columns = [{"columnName": name, "columnType": "STRING"} for name in ("Straße", "STRASSE")]
    response = await team.create(tableSchema={"tableName": "orders", "columns": columns})
    assert response.status == 400
    assert response.json["errors"][0]["errorCode"] == "DUPLICATE_COLUMN_DETECTED"


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"text"'], ids=["empty", "cut off", "list", "text"])
async def test_a_body_that_is_not_a_json_object_is_400(team, body):
    assert (await team.request("POST", team.jobs_path, data=body)).status == 400


async def test_jobs_are_listed_per_pool(start):
    team = await start()
    first, second = await team.new_job("one"), await team.new_job("two")
    listed = (await team.request("GET", team.jobs_path)).json
    assert [job["id"] for job in listed] == [first, second]
    assert (await team.request("GET", "/data-ingestion/api/v1/data-push/other/jobs/")).json == []
    assert (await team.request("GET", f"/data-ingestion/api/v1/data-push/other/jobs/{first}")).status == 404


async def test_both_base_paths_show_the_same_jobs(team):
    old = "/integration/api/v1/data-push/pool-1/jobs/"
    job_id = (await team.request("POST", old, json={"targetName": "t", "type": "REPLACE"})).json["id"]
    assert (await team.get(job_id)).status == 200
    assert (await team.upload(job_id, ROWS)).status == 200
    assert (await team.request("POST", old + job_id)).status == 200
    assert (await team.settled(job_id))["status"] == "DONE"
    assert (await team.request("GET", f"{old}{job_id}/chunks")).status == 200
    assert (await team.request("DELETE", old + job_id)).status == 200


OTHER_SPELLINGS = [
    ("POST", "/data-ingestion/api/v1/data-push/pool-1/jobs"),
    ("GET", "/data-ingestion/api/v1/data-push/pool-1/jobs"),
    ("GET", "/data-ingestion/api/v1/data-push/pool-1/jobs/{id}/"),
    ("POST", "/data-ingestion/api/v1/data-push/pool-1/jobs/{id}/"),
    ("POST", "/integration/api/v1/data-push/pool-1/jobs//{id}"),
    ("POST", "/integration/api/v1/data-push/pool-1/jobs//{id}/chunks/upserted"),
    ("POST", "/data-ingestion/api/v1/data-push/pool-1/jobs/{id}/chunks/upserted/"),
    ("GET", "//data-ingestion/api/v1//data-push/pool-1/jobs/{id}//chunks//"),
]


@pytest.mark.parametrize(("method", "path"), OTHER_SPELLINGS)
async def test_slashes_may_be_repeated_or_missing_unless_the_settings_forbid_it(
    start, to_form, to_parquet, method, path
):
    for tolerates_slashes, expected in ((True, 200), (False, 404)):
        team = await start(tolerates_slashes=tolerates_slashes)
        job_id = await team.new_job("t")
        options = {}
        if "upserted" in path:
            content_type = "multipart/form-data; boundary=contract-boundary"
            options = {
                "headers": team.headers | {"Content-Type": content_type},
                "data": to_form(to_parquet({"a": [1]})),
            }
        elif path.endswith("/jobs") and method == "POST":
            options = {"json": {"targetName": "t", "type": "REPLACE"}}
        assert (await team.request(method, path.format(id=job_id), **options)).status == expected


@pytest.mark.parametrize("base", ["/integration-hybrid", ""])
async def test_other_base_paths_do_not_exist(team, base):
    response = await team.request("GET", f"{base}/api/v1/data-push/pool-1/jobs/")
    assert (response.status, response.json["errorCode"]) == (404, "NOT_FOUND")


@pytest.mark.parametrize(("method", "suffix"), [("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/chunks")])
async def test_an_unknown_job_is_404(team, method, suffix):
    response = await team.request(method, f"{team.jobs_path}nowhere{suffix}")
    assert response.status == 404
    assert set(response.json) == {"reference", "message", "shortMessage"}


async def test_an_upload_to_an_unknown_job_is_404(team):
    assert (await team.upload("nowhere", ROWS)).status == 404
    assert team.spool_files() == []


@pytest.mark.parametrize("submitted", [False, True], ids=["new", "done"])
async def test_a_deleted_job_is_gone_with_its_files(team, submitted):
    job_id = await team.new_job()
    await team.upload(job_id, ROWS)
    if submitted:
        await team.submit(job_id)
        await team.settled(job_id)
    assert (await team.delete(job_id)).status == 200
    assert (await team.get(job_id)).status == 404
    assert (await team.delete(job_id)).status == 404
    assert team.spool_files() == []


async def test_an_unsubmitted_job_expires_at_its_maximum_age(start, clock):
    team = await start(now=clock, unsubmitted_job_ttl_seconds=60)
    job_id, done_id = await team.new_job("t"), await team.new_job("u")
    await team.upload(job_id, ROWS)
    await team.upload(done_id, ROWS)
    await team.submit(done_id)
    await team.settled(done_id)
    clock.now += 59
    assert (await team.get(job_id)).status == 200
    clock.now += 1
    assert (await team.upload(job_id, ROWS)).status == 404
    assert (await team.submit(job_id)).status == 404
    assert [job["id"] for job in (await team.request("GET", team.jobs_path)).json] == [done_id]
    assert team.spool_files() == []


async def test_every_response_has_the_servers_date(start, clock):
    team = await start(now=clock)
    for path in (team.jobs_path, "/nowhere", team.jobs_path + "nowhere"):
        assert (await team.request("GET", path)).headers["Date"] == "Thu, 01 Jan 2026 00:10:00 GMT"
    assert (await team.request("GET", team.jobs_path, headers={})).headers["Date"] == "Thu, 01 Jan 2026 00:10:00 GMT"


# Data connections


async def test_only_the_connections_of_the_settings_exist(start):
    team = await start(connection_ids=frozenset({"sap"}))
    for connection_id, status in (("sap", 200), (None, 200), ("", 200), ("SAP", 400), ("other", 400)):
        response = await team.create(connectionId=connection_id)
        assert response.status == status
        if status == 400:
            (error,) = response.json["errors"]
            assert (error["attribute"], error["errorCode"]) == ("connectionId", "NOT_FOUND")


@pytest.mark.parametrize("connection_id", ["a\0b", "a\nb", " a", "x" * 201, " "])
async def test_the_id_of_a_connection_must_be_well_formed(team, connection_id):
    (error,) = (await team.create(connectionId=connection_id)).json["errors"]
    assert (error["attribute"], error["errorCode"]) == ("connectionId", "INVALID_VALUE")
