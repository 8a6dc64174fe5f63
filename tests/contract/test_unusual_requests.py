"""Requests that a careless or hostile client sends: each has an answer in one of the API's forms, and none is a 500."""

import gzip
import io
import json

import pytest
from yarl import URL

from pushengine.emulator.http import app as http_app

TOO_DEEP = [b"[" * 100_000, b'{"a":' * 100_000 + b"1" + b"}" * 100_000]
DEEP_UNKNOWN_KEY = b'{"targetName": "t", "type": "REPLACE", "unknown": ' + b"[" * 150 + b"]" * 150 + b"}"
JOB = {"targetName": "t", "type": "REPLACE"}


def field_error(response):
    assert response.status == 400, response.content
    (entry,) = response.json["errors"]
    assert set(entry) == {"attribute", "error", "errorCode", "additionalInfo"}
    return entry["attribute"], entry["errorCode"]


@pytest.mark.parametrize("body", [*TOO_DEEP, DEEP_UNKNOWN_KEY], ids=["list", "object", "unknown-key"])
async def test_deep_json_is_an_invalid_body(team, body):
    assert field_error(await team.request("POST", team.jobs_path, data=body)) == ("body", "INVALID_BODY")


@pytest.mark.parametrize(
    "body",
    [
        b'{"targetName": "t", "type": "REPLACE", "fallbackVarcharLength": ' + b"9" * 5000 + b"}",
        b'{"targetName": "t", "type": "REPLACE", "fallbackVarcharLength": NaN}',
        b'{"targetName": "\\ud800", "type": "REPLACE"}',
        b'{"targetName": "t", "type": "REPLACE", "\\ud800": 1}',
        b'{"targetName": "\xff", "type": "REPLACE"}',
    ],
    ids=["digits", "not-a-number", "half-a-character", "half-a-character-in-a-key", "not-utf-8"],
)
async def test_json_that_java_cannot_read_is_an_invalid_body(team, body):
    assert field_error(await team.request("POST", team.jobs_path, data=body)) == ("body", "INVALID_BODY")


@pytest.mark.parametrize("value", [["pool-1"], {}, 1])
async def test_the_pool_id_of_a_body_must_be_a_string(team, value):
    assert field_error(await team.create(dataPoolId=value)) == ("dataPoolId", "INVALID_TYPE")


@pytest.mark.parametrize(
    "name",
    [
        "UTF-8\0",
        *("rot13", "idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "charmap", "hex", "zlib"),
        *("mbcs", "utf_8_sig", "utf-7", "x" * 1_000_000, "\u00fc", "../utf-8", " utf-8"),
    ],
    ids=lambda name: repr(name[:20]),
)
async def test_a_charset_that_only_python_knows_is_unknown(team, name):
    response = await team.create(fileType="CSV", csvParsingOptions={"charSet": name})
    assert field_error(response) == ("csvParsingOptions.charSet", "INVALID_VALUE")
    assert len(response.content) < 1000


@pytest.mark.parametrize(
    "name",
    ["UTF-8", "UTF8", "utf8", "ISO-8859-1", "ISO-8859-15", "latin1", "windows-1252", "Cp1252", "IBM850", "US-ASCII"],
)
async def test_the_charsets_of_java_are_known(team, name):
    job_id = await team.new_job(fileType="CSV", csvParsingOptions={"charSet": name})
    assert (await team.upload(job_id, b"a,b\n1,2\n")).status == 200


@pytest.mark.parametrize(
    "option", ["lineEnding", "decimalSeparator", "thousandSeparator", "dateFormat", "quoteSequence"]
)
async def test_a_csv_option_has_no_nul_character(team, option):
    response = await team.create(fileType="CSV", csvParsingOptions={option: "\0"})
    assert field_error(response) == (f"csvParsingOptions.{option}", "INVALID_VALUE")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "bogus"])
async def test_an_encoded_body_is_not_supported(team, encoding, to_form, to_parquet):
    headers = team.headers | {"Content-Encoding": encoding}
    job_id = await team.new_job("t")
    upload = {"Content-Type": "multipart/form-data; boundary=contract-boundary"}
    bodies = {
        "false": (team.jobs_path, json.dumps(JOB).encode(), {}),
        "true": (team.jobs_path, gzip.compress(json.dumps(JOB).encode()), {}),
        "upload": (f"{team.jobs_path}{job_id}/chunks/upserted", to_form(to_parquet({"a": [1]})), upload),
        "form": ("/oauth2/token", b"grant_type=client_credentials", {}),
    }
    for path, body, more in bodies.values():
        response = await team.request("POST", path, data=io.BytesIO(body), headers=headers | more)
        assert (response.status, response.json["errorCode"]) == (415, "UNSUPPORTED_ENCODING")
        assert response.headers["Accept-Encoding"] == "identity"
    assert len((await team.request("GET", team.jobs_path)).json) == 1
    assert await team.chunks(job_id) == []
    plain = {"Content-Encoding": "identity"} | team.headers
    assert (await team.request("POST", team.jobs_path, json=JOB, headers=plain)).status == 200


@pytest.mark.parametrize("page", ["9" * 5000, "1" + "0" * 20])
async def test_a_page_of_any_number_of_digits_is_beyond_the_end(start, page):
    team = await start(chunk_list_page_size=2)
    job_id = await team.new_job()
    await team.upload(job_id, {"a": [1]})
    response = await team.request("GET", f"{team.jobs_path}{job_id}/chunks", params={"page": page})
    assert (response.status, response.json) == (200, [])
    assert len((await team.request("GET", f"{team.jobs_path}{job_id}/chunks", params={"page": "\u00b2"})).json) == 1


@pytest.mark.parametrize("charset", ["bogus", "rot13", "utf-7"])
async def test_a_form_is_utf_8_whatever_charset_it_claims(team, charset):
    headers = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}", "Authorization": "Basic YTpi"}
    response = await team.request("POST", "/oauth2/token", headers=headers, data=b"grant_type=client_credentials")
    assert response.status == 200
    response = await team.request("POST", "/oauth2/token", headers=headers, data=b"grant_type=\xff")
    assert (response.status, response.json["error"]) == (400, "invalid_request")


@pytest.mark.parametrize(
    "body",
    [
        b"no form at all",
        b"--form-boundary\r\n",
        b'--form-boundary\r\nContent-Disposition: form-data; name="grant_type"\r\n\r\n\xff\r\n--form-boundary--\r\n',
    ],
)
async def test_a_malformed_token_form_is_an_invalid_request(team, body, capfd):
    headers = {"Content-Type": "multipart/form-data; boundary=form-boundary", "Authorization": "Basic YTpi"}
    response = await team.request("POST", "/oauth2/token", headers=headers, data=body)
    assert (response.status, response.json["error"]) == (400, "invalid_request")
    assert capfd.readouterr().err == ""


async def test_a_job_of_20000_columns_fits_but_not_any_body(team):
    columns = [{"columnName": f"column_{index}", "columnType": "STRING", "fieldLength": 80} for index in range(20_000)]
    body = json.dumps(JOB | {"tableSchema": {"columns": columns}}).encode()
    assert (await team.request("POST", team.jobs_path, data=io.BytesIO(body))).status == 200
    response = await team.request("POST", "/oauth2/token", data=io.BytesIO(b"a" * 3_000_000))
    assert (response.status, response.json["errorCode"]) == (413, "PAYLOAD_TOO_LARGE")


@pytest.mark.parametrize(
    ("path", "status"), [("jobs/%00", 404), ("jobs/a%2Fb", 404), ("jobs/%ff%fe", 404), ("jobs/x?a=%ff&a=%00&&=", 404)]
)
async def test_any_bytes_may_stand_in_a_path(team, path, status):
    url = URL(f"{team.emulator.url}/integration/api/v1/data-push/pool-1/{path}", encoded=True)
    async with team.session.get(url, headers=team.headers) as response:
        assert (response.status, (await response.json())["shortMessage"]) == (status, "Not found")


async def test_methods_and_paths_that_do_not_exist_have_the_body_of_a_gateway(team):
    for method, path, status in (
        ("PUT", team.jobs_path, 405),
        ("PATCH", "/oauth2/token", 405),
        ("GET", "/tables/t/rows", 404),
    ):
        response = await team.request(method, path)
        assert response.status == status
        assert set(response.json) == {"title", "status", "detail", "errorCode"}
    assert (await team.request("PUT", team.jobs_path)).headers["Allow"] == "GET, HEAD, POST"


async def test_head_is_get_without_a_body_and_options_lists_the_methods(team):
    assert (await team.request("HEAD", team.jobs_path)).status == 200
    assert (await team.request("HEAD", team.jobs_path, headers={})).status == 401
    response = await team.request("OPTIONS", team.jobs_path)
    assert (response.status, response.headers["Allow"]) == (200, "GET, HEAD, POST")


async def test_a_bug_of_the_emulator_is_a_500_with_a_reference_and_logs_its_traceback(team, monkeypatch, caplog):
    def fail(*_args):
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(http_app, "parse_json", fail)
    response = await team.create()
    assert response.status == 500
    assert set(response.json) == {"reference", "message", "shortMessage"}
    assert "ZeroDivisionError: a bug" in caplog.text
    assert response.json["reference"] in caplog.text
    monkeypatch.undo()
    assert (await team.create()).status == 200


async def test_every_field_of_a_job_may_be_null(team):
    fields = """id dataPoolId connectionId fileType keys upsertStrategy tableSchema fallbackVarcharLength csvParsingOptions
        allowDuplicate postExecutionQuery mirrorTargetNames foreignKeys targetSchema status logs lastModified lastPing changeDate
        tenantId optionalTenantId"""
    job_id = await team.new_job("t", **dict.fromkeys(fields.split()), dataConnectionId="ignored", columnSeparator=";")
    await team.upload(job_id, {"a": [1]})
    assert (await team.submit(job_id, json={})).status == 200
    assert (await team.settled(job_id))["status"] == "DONE"
    assert await team.rows("SELECT a FROM main.t") == [(1,)]
