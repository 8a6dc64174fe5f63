"""`pushengine check`: five lines that show what would prevent a push, and what to do about it."""

import asyncio
import contextlib
import socket

import pytest
import trustme

from pushengine import AppKey, OAuthClient, PushEngine, UserApiKey, errors
from pushengine.celonis import checks
from pushengine.cli.exit_codes import exit_code_for
from pushengine.config import load
from pushengine.emulator import Emulator, EmulatorCredentials, EmulatorSettings

STRICT = EmulatorSettings(
    credentials=EmulatorCredentials(
        client_id="loader", client_secret="client-secret-1", api_key="api-key-1", app_key="app-key-1"
    ),
    forbidden_pool_ids=frozenset({"closed"}),
    pool_ids=frozenset({"p", "closed"}),
)
CLIENT = OAuthClient("loader", "client-secret-1")
USER, APP = UserApiKey("api-key-1"), AppKey("app-key-1")


async def check(url, auth, tmp_path, pool="p", **settings):
    async with PushEngine(
        url, pool_id=pool, auth=auth, state_dir=tmp_path, settings=load.EngineSettings(**settings)
    ) as engine:
        return await engine.check()


def marks(results):
    assert tuple(result.name for result in results) == checks.CHECKS
    return "".join({True: "+", False: "!", None: "?"}[result.is_ok] for result in results)


def failure(results):
    """Return the one line that failed."""
    [failed] = [result for result in results if result.is_ok is False]
    assert failed.detail
    assert failed.remedy
    return failed


@contextlib.asynccontextmanager
async def responding(response, **options):
    """Run a server that sends this response to every request and closes the connection; yield its port."""

    async def serve(reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(response)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, **options)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("auth", [CLIENT, USER, APP], ids=["oauth", "user", "app"])
async def test_all_checks_pass(auth, tmp_path):
    async with Emulator(settings=STRICT) as emulator:
        results = await check(emulator.url, auth, tmp_path)
    assert marks(results) == "+++++"
    assert results[1].detail == "not used (loopback)"
    scope = results[3].detail
    if auth is CLIENT:
        assert scope == "granted: integration.data-pools:data_push"
    else:
        assert scope.startswith("not applicable: the key has ")


@pytest.mark.parametrize(
    ("auth", "pool", "expected", "line", "remedy", "code"),
    [
        (OAuthClient("loader", "wrong-secret-1"), "p", "++!??", "invalid_client", "client secret", 4),
        (OAuthClient("unknown", "client-secret-1"), "p", "++!??", "invalid_client", "client id", 4),
        (OAuthClient("loader", "client-secret-1", scope="a.b"), "p", "+++!?", "invalid_scope", "'a.b'", 4),
        (UserApiKey("wrong-key-1"), "p", "++!??", "401", "pasted completely", 4),
        (AppKey("api-key-1"), "p", "++!??", "401", "an application key as app_key", 4),
        (CLIENT, "closed", "++++!", "403", "'Data Push API' to the OAuth client loader", 4),
        (USER, "closed", "++++!", "403", "to the user that the API key belongs to", 4),
        (APP, "closed", "++++!", "403", "to the application key", 4),
        (CLIENT, "elsewhere", "++++!", "404", "no such data pool", 3),
        (USER, "elsewhere", "++++!", "404", "no such data pool", 3),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_a_single_fault_fails_one_line_with_its_remedy(*, auth, pool, expected, line, remedy, code, tmp_path):
    async with Emulator(settings=STRICT) as emulator:
        results = await check(emulator.url, auth, tmp_path, pool)
    assert marks(results) == expected
    failed = failure(results)
    assert line in failed.detail
    assert remedy in failed.remedy
    assert exit_code_for(failed.error) == code
    assert {result.detail for result in results if result.is_ok is None} <= {"not checked"}
    text = str([result.to_dict() for result in results])
    assert not any(secret in text for secret in ("secret-1", "wrong-key-1", "api-key-1", "app-key-1"))


async def test_a_scope_without_push_permission_explains_the_403(tmp_path):
    """The token is granted with the requested scope, which is not enough: the scope is at fault, not the pool."""
    settings = EmulatorSettings(scopes=("integration.data-models", "integration.data-pools"))
    async with Emulator(settings=settings) as emulator:
        narrow = OAuthClient("loader", "s", scope="integration.data-models")
        results = await check(emulator.url, narrow, tmp_path)
        assert marks(results) == "+++!?"
        assert "needed: integration.data-pools" in failure(results).detail
        assert exit_code_for(failure(results).error) == 4
        without_scope = await check(emulator.url, OAuthClient("loader", "s", scope=""), tmp_path)
    assert marks(without_scope) == "+++++"


async def test_a_closed_port_fails_the_url_line(tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        for auth in (CLIENT, USER):
            results = await check(url, auth, tmp_path)
            assert marks(results)[0] == "!"
            assert marks(results)[2::2] == "??"
            assert "no connection" in failure(results).detail
            assert "port of the URL" in failure(results).remedy
            assert exit_code_for(failure(results).error) == 75


async def test_an_unreachable_token_endpoint_elsewhere_does_not_fail_the_url_line(tmp_path):
    async with Emulator(settings=STRICT) as emulator:
        elsewhere = OAuthClient("loader", "client-secret-1", token_url="http://127.0.0.1:9/oauth2/token")
        results = await check(emulator.url, elsewhere, tmp_path)
    assert marks(results) == "?+!??"
    assert "get an access token" in failure(results).detail


@pytest.mark.parametrize("auth", [CLIENT, USER], ids=["oauth", "user"])
async def test_an_untrusted_certificate_fails_the_tls_line_and_a_ca_file_fixes_it(auth, tmp_path):
    import ssl

    ca = trustme.CA()
    (tmp_path / "ca.pem").write_bytes(ca.cert_pem.bytes())
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    body = b"HTTP/1.1 401 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with responding(body, ssl=context) as port:
        refused = await check(f"https://127.0.0.1:{port}", auth, tmp_path)
        trusted = await check(f"https://127.0.0.1:{port}", auth, tmp_path, ca_file=tmp_path / "ca.pem")
    assert marks(refused) == ("+!???" if auth is CLIENT else "+!?+?")
    assert "certificate" in failure(refused).detail
    assert "ca_file" in failure(refused).remedy
    assert marks(trusted) == "++!??"
    assert trusted[1].detail == "the certificate is verified"


async def test_a_port_without_tls_is_distinguished_from_a_bad_certificate(tmp_path):
    async with Emulator() as emulator:
        results = await check(emulator.url.replace("http:", "https:"), USER, tmp_path)
    assert marks(results) == "+!?+?"
    assert "may not speak TLS" in failure(results).remedy


async def test_a_refusal_without_a_reason_may_mean_that_the_api_is_disabled(tmp_path):
    body = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    async with responding(body) as port:
        results = await check(f"http://127.0.0.1:{port}", USER, tmp_path)
    assert marks(results) == "++++!"
    assert "API is disabled" in failure(results).remedy


@pytest.mark.parametrize(
    ("status", "code"), [(b"502 Bad Gateway", 75), (b"302 Found\r\nLocation: /login", 2), (b"200 OK", 75)]
)
async def test_a_server_that_is_not_a_team_proves_nothing_about_the_key(status, code, tmp_path):
    async with responding(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi") as port:
        results = await check(f"http://127.0.0.1:{port}", USER, tmp_path)
    assert marks(results) == "++?+!"
    assert results[2].detail == "not checked: the responses are inconclusive"
    assert exit_code_for(failure(results).error) == code


@pytest.mark.parametrize(
    ("words", "extra", "expected", "remedy"),
    [
        ("--url http://acme.eu-1.celonis.cloud --pool p", {"PUSHENGINE_API_KEY": "k"}, "!????", "use https://"),
        ("--url acme.celonis.cloud --pool p", {"PUSHENGINE_API_KEY": "k"}, "!????", "start with https://"),
        ("--pool p", {"PUSHENGINE_API_KEY": "k"}, "!????", "PUSHENGINE_URL"),
        ("--url http://127.0.0.1:9 --pool p", {}, "??!??", "PUSHENGINE_CLIENT_ID"),
        ("--url http://127.0.0.1:9", {"PUSHENGINE_API_KEY": "k"}, "????!", "PUSHENGINE_POOL_ID"),
    ],
    ids=["http", "no-scheme", "no-url", "no-credentials", "no-pool"],
)
def test_a_missing_or_invalid_setting_fails_its_line(pushengine, words, extra, expected, remedy):
    done = pushengine("check", *words.split(), "--json", **extra)
    assert done.code == 2, done.err
    assert done.json["is_ok"] is False
    lines = done.json["checks"]
    assert "".join({True: "+", False: "!", None: "?"}[line["is_ok"]] for line in lines) == expected
    assert remedy in next(line["remedy"] for line in lines if line["is_ok"] is False)


def test_errors_in_other_settings_are_plain_errors(pushengine):
    both = {"PUSHENGINE_API_KEY": "k", "PUSHENGINE_APP_KEY": "k"}
    done = pushengine("check", "--url", "http://127.0.0.1:9", "--pool", "p", **both)
    assert (done.code, done.out) == (2, "")
    assert "two ways to authenticate" in done.err


async def test_a_closed_engine_raises_an_error_instead_of_failing_a_line(tmp_path):
    async with Emulator() as emulator:
        engine = PushEngine(emulator.url, pool_id="p", auth=USER, state_dir=tmp_path)
        async with engine:
            pass
        with pytest.raises(errors.EngineClosedError):
            await engine.check()
