"""Three ways to authenticate, the token endpoint, and access to pools."""

import base64

import aiohttp
import pytest

from pushengine.emulator import EmulatorCredentials

KNOWN = EmulatorCredentials(client_id="id", client_secret="s e:cret", api_key="api", app_key="app")
ID_AND_SECRET = {"client_id": "id", "client_secret": "s e:cret"}
GRANT = {"grant_type": "client_credentials"}


def basic(client_id="id", secret="s e:cret"):
    return {"Authorization": "Basic " + base64.b64encode(f"{client_id}:{secret}".encode()).decode()}


async def token(team, *, headers=None, **options):
    return await team.request("POST", "/oauth2/token", headers=headers or {}, **options)


async def list_status(team, authorization):
    return (await team.request("GET", team.jobs_path, headers={"Authorization": authorization})).status


async def test_without_credentials_401_is_json(team):
    response = await team.request("GET", team.jobs_path, headers={})
    assert (response.status, response.json) == (401, {"error": "Unauthorized"})


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer a b", "Basic eDp5", "key", "Bearer ké", "AppKey  "]
)
async def test_a_malformed_header_is_401_with_a_hint(team, header):
    response = await team.request("GET", team.jobs_path, headers={"Authorization": header})
    assert response.status == 401
    assert response.headers["Content-Type"].startswith("text/plain")
    assert b"Malformed" in response.content


@pytest.mark.parametrize("header", ["Bearer anything", "bearer anything", "AppKey anything", "APPKEY anything"])
async def test_any_well_formed_credential_is_accepted_by_default(team, header):
    assert await list_status(team, header) == 200


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ("Bearer api", 200),
        ("AppKey app", 200),
        ("appkey app", 200),
        ("Bearer app", 401),
        ("AppKey api", 401),
        ("Bearer wrong", 401),
        ("AppKey wrong", 401),
    ],
)
async def test_fixed_credentials_admit_only_their_own_keys(start, header, status):
    team = await start(credentials=KNOWN)
    assert await list_status(team, header) == status


@pytest.mark.parametrize(
    "request_options",
    [
        {"headers": basic(), "data": GRANT},
        {"headers": basic(), "params": GRANT},
        {"data": GRANT | ID_AND_SECRET},
        {"params": GRANT | ID_AND_SECRET},
    ],
    ids=["basic form", "basic query", "post form", "post query"],
)
async def test_a_client_gets_a_token_and_the_token_works(start, request_options):
    team = await start(credentials=KNOWN)
    response = await token(team, **request_options)
    assert response.status == 200
    assert response.json | {"access_token": ""} == {
        "access_token": "",
        "token_type": "Bearer",
        "expires_in": 899,
        "scope": "integration.data-pools:data_push integration.data-pools",
    }
    assert await list_status(team, f"Bearer {response.json['access_token']}") == 200
    assert await list_status(team, f"AppKey {response.json['access_token']}") == 401


async def test_a_token_request_may_be_a_multipart_form(start):
    team = await start(credentials=KNOWN)
    with aiohttp.MultipartWriter("form-data") as writer:
        for name, value in (GRANT | ID_AND_SECRET).items():
            writer.append(value).set_content_disposition("form-data", name=name)
        response = await token(team, data=writer)
    assert response.status == 200


@pytest.mark.parametrize(
    ("request_options", "status", "error"),
    [
        ({"data": GRANT | {"client_id": "id", "client_secret": "wrong"}}, 401, "invalid_client"),
        ({"data": GRANT | {"client_id": "id"}}, 401, "invalid_client"),
        ({"data": GRANT}, 401, "invalid_client"),
        ({"headers": basic(secret="wrong"), "data": GRANT}, 401, "invalid_client"),
        ({"headers": {"Authorization": "Basic !"}, "data": GRANT}, 401, "invalid_client"),
        ({"headers": {"Authorization": "Bearer api"}, "data": GRANT}, 401, "invalid_client"),
        ({"headers": basic(), "data": GRANT | ID_AND_SECRET}, 400, "invalid_request"),
        ({"headers": basic()}, 400, "invalid_request"),
        ({"headers": basic(), "data": {"grant_type": "password"}}, 400, "unsupported_grant_type"),
        ({"headers": basic(), "data": GRANT | {"scope": "integration.data-pools studio"}}, 400, "invalid_scope"),
    ],
)
async def test_the_token_endpoint_rejects_requests_as_rfc_6749_specifies(start, request_options, status, error):
    team = await start(credentials=KNOWN)
    response = await token(team, **request_options)
    assert (response.status, response.json["error"]) == (status, error)


async def test_a_malformed_token_form_is_an_invalid_request(team):
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    response = await token(team, headers=headers, data=b"no form")
    assert (response.status, response.json["error"]) == (400, "invalid_request")


async def test_an_authentication_method_the_client_is_not_registered_for_is_rejected(start):
    team = await start(client_auth_methods=frozenset({"post"}))
    assert (await token(team, headers=basic(), data=GRANT)).json["error"] == "invalid_client"
    assert (await token(team, data=GRANT | ID_AND_SECRET)).status == 200


async def test_a_token_has_the_requested_scopes(team):
    response = await token(team, data=GRANT | ID_AND_SECRET | {"scope": "integration.data-pools"})
    assert response.json["scope"] == "integration.data-pools"


async def test_a_token_without_the_data_push_scope_is_forbidden(start):
    team = await start(scopes=("studio", "integration.data-pools"))
    response = await token(team, data=GRANT | ID_AND_SECRET | {"scope": "studio"})
    assert await list_status(team, f"Bearer {response.json['access_token']}") == 403


@pytest.mark.parametrize("credentials", [None, KNOWN], ids=["open", "fixed"])
async def test_a_token_expires(start, clock, credentials):
    team = await start(now=clock, credentials=credentials, token_lifetime_seconds=100)
    response = await token(team, data=GRANT | ID_AND_SECRET)
    authorization = f"Bearer {response.json['access_token']}"
    clock.now += 99
    assert await list_status(team, authorization) == 200
    clock.now += 1
    assert await list_status(team, authorization) == 401


async def test_an_unknown_pool_is_404_and_a_forbidden_one_403(start):
    team = await start(pool_ids=frozenset({"pool-1", "secret"}), forbidden_pool_ids=frozenset({"secret"}))
    assert (await team.create()).status == 200
    unknown = await team.request("GET", "/data-ingestion/api/v1/data-push/other/jobs/")
    forbidden = await team.request("GET", "/data-ingestion/api/v1/data-push/secret/jobs/")
    assert unknown.status == 404
    assert (forbidden.status, forbidden.json["errorCode"]) == (403, "ADMIN_ACCESS_ERROR")


async def test_the_team_endpoints_need_a_credential(team):
    assert "domain" in (await team.request("GET", "/api/cloud/team")).json
    limits = (await team.request("GET", "/api/team")).json
    assert (limits["dataPushJobSubmissionLimitPerSec"], limits["dataPushJobSubmissionLimitPerHour"]) == (10, 250)
    for path in ("/api/team", "/api/cloud/team"):
        assert (await team.request("GET", path, headers={})).status == 401


async def test_an_unauthorized_caller_is_rejected_before_it_sends_the_body(team):
    """With `Expect: 100-continue`, a client does not send a gigabyte only to receive a 401."""
    job_id = await team.new_job()
    sent = []

    async def body():
        sent.append(True)
        yield b"x"

    response = await team.request(
        "POST", f"{team.jobs_path}{job_id}/chunks/upserted", headers={}, data=body(), expect100=True
    )
    assert (response.status, sent) == (401, [])


async def test_credentials_do_not_reach_logs_or_reprs(start, caplog):
    caplog.set_level("DEBUG")
    team = await start(credentials=KNOWN)
    issued = (await token(team, data=GRANT | ID_AND_SECRET)).json["access_token"]
    await list_status(team, "Bearer api")
    await list_status(team, f"Bearer {issued}")
    seen = caplog.text + repr(team.emulator) + repr(team.emulator.settings)
    assert not any(secret in seen for secret in (issued, "s e:cret", "'api'", "'app'"))


# Discovery and scopes


async def test_public_clients_discover_the_token_endpoint(start):
    team = await start(credentials=KNOWN, client_auth_methods=frozenset({"post"}))
    document = (await team.request("GET", "/.well-known/openid-configuration", headers={})).json
    assert document["issuer"] == team.emulator.url
    assert document["token_endpoint"] == f"{team.emulator.url}/oauth2/token"
    assert document["token_endpoint_auth_methods_supported"] == ["client_secret_post"]
    assert "integration.data-pools:data_push" in document["scopes_supported"]
    async with team.session.post(document["token_endpoint"], data=GRANT | ID_AND_SECRET) as response:
        assert (await response.json())["token_type"] == "Bearer"


@pytest.mark.parametrize("spelling", ["data_push", "data-push", "datapush"])
async def test_a_scope_has_the_spellings_of_the_documentation(start, spelling):
    scope = f"integration.data-pools:{spelling}"
    for settings, status in (({}, 200), ({"tolerates_scope_spellings": False}, 200 if "_" in spelling else 400)):
        team = await start(**settings)
        response = await token(team, headers=basic(), data=GRANT | {"scope": scope})
        assert response.status == status
        if status == 200:
            assert response.json["scope"] == scope
            assert await list_status(team, f"Bearer {response.json['access_token']}") == 200
        else:
            assert response.json["error"] == "invalid_scope"


async def test_a_scope_to_read_pools_does_not_admit_pushes(start):
    team = await start(scopes=("integration.data-pools:read",))
    granted = await token(team, headers=basic(), data=GRANT)
    assert await list_status(team, f"Bearer {granted.json['access_token']}") == 403
