"""The three ways to authenticate, against an emulator that accepts only these credentials."""

import asyncio
import socket

import pyarrow as pa
import pytest

from pushengine import AppKey, OAuthClient, UserApiKey, events
from pushengine.cli.exit_codes import exit_code_for
from pushengine.emulator import Emulator, EmulatorCredentials, EmulatorSettings, LocalCertificate
from pushengine.errors import (
    AuthenticationError,
    ConnectionFailedError,
    PermissionDeniedError,
    RetriesExhaustedError,
    UntrustedServerError,
)

KNOWN = EmulatorCredentials(client_id="client", client_secret="s3cret", api_key="user-key", app_key="app-key")
ROWS = pa.table({"A": [1, 2]})
GOOD = [
    OAuthClient("client", "s3cret"),
    OAuthClient("client", "s3cret", method="basic"),
    OAuthClient("client", "s3cret", method="post"),
    UserApiKey("user-key"),
    AppKey("app-key"),
]
WRONG = [
    OAuthClient("client", "wrong-secret"),
    OAuthClient("nobody", "s3cret"),
    UserApiKey("wrong-secret"),
    AppKey("wrong-secret"),
    UserApiKey("app-key"),
]


def auth_id(auth):
    return type(auth).__name__ + getattr(auth, "method", "")


@pytest.mark.parametrize("base_path", ["data-ingestion", "integration"])
@pytest.mark.parametrize("auth", GOOD, ids=auth_id)
async def test_each_way_to_authenticate_can_push(start, auth, base_path):
    stage = await start(emulator={"credentials": KNOWN}, auth=auth, base_path=base_path)
    await stage.push(ROWS)
    assert await stage.rows() == [(1,), (2,)]


@pytest.mark.parametrize("auth", WRONG, ids=auth_id)
async def test_wrong_credentials_are_rejected_without_being_shown(start, auth):
    stage = await start(emulator={"credentials": KNOWN}, auth=auth)
    with pytest.raises(AuthenticationError) as caught:
        await stage.push(ROWS)
    assert caught.value.hint
    assert "wrong-secret" not in f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {stage.sink.events}"
    assert caught.value.receipt.status == "ERROR"
    assert stage.jobs() == []


async def test_a_forbidden_pool_is_distinguished_from_wrong_credentials(start):
    stage = await start(emulator={"forbidden_pool_ids": frozenset({"theirs"})}, pool_id="theirs")
    with pytest.raises(PermissionDeniedError) as caught:
        await stage.push(ROWS)
    assert caught.value.status == 403
    assert caught.value.hint


async def test_a_short_lived_token_is_renewed_during_a_push(start):
    stage = await start(
        emulator={"credentials": KNOWN, "token_lifetime_seconds": 1},
        auth=OAuthClient("client", "s3cret"),
        chunk_bytes=64 * 1024,
    )
    await stage.push(pa.table({"A": range(100_000)}))
    assert await stage.query("select count(*), sum(A) from T") == [(100_000, 4_999_950_000)]


async def test_a_team_that_does_not_respond_is_tried_a_few_times(stage):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        engine = await stage.open_engine(url=url, max_attempts=3)
        with pytest.raises(RetriesExhaustedError) as caught:
            await engine.push(ROWS, table="T")
    assert isinstance(caught.value.__cause__, ConnectionFailedError)
    assert caught.value.attempts == 3
    assert (caught.value.receipt.status, caught.value.receipt.retries) == ("ERROR", 2)


async def test_a_team_that_comes_up_late_is_waited_for(stage):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    engine = await stage.open_engine(url=f"http://127.0.0.1:{port}", max_attempts=1)
    stage.sink.emit = record_and_set(stage.sink, failed := asyncio.Event())
    push = asyncio.create_task(engine.push(ROWS, table="T", patience="50s"))
    await failed.wait()
    async with Emulator(port=port, settings=EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)) as late:
        receipt = await push
        assert (receipt.status, receipt.retries > 0) == ("DONE", True)
        assert await late.query("select count(*) from T") == [(2,)]


def record_and_set(sink, happened):
    """Return an `emit` that sets an asyncio event at the fourth retry."""
    emit = sink.emit

    def emit_and_set(event):
        emit(event)
        if isinstance(event, events.RetryScheduled) and event.attempt == 4:
            happened.set()

    return emit_and_set


async def test_a_server_whose_certificate_is_not_trusted_ends_a_push_at_once(stage, tmp_path, monkeypatch):
    """Nothing passes by waiting, so the patience does not matter; once the CA is configured, the same command loads the rows."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    certificate = LocalCertificate()
    certificate.write_ca(tmp_path / "ca.pem")
    (tmp_path / "a.csv").write_text("A\n1\n2\n")
    settings = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0)
    async with Emulator(settings=settings, tls=certificate) as emulator:
        engine = await stage.open_engine(url=emulator.url, patience="30m")
        with pytest.raises(UntrustedServerError) as caught:
            await engine.push(tmp_path / "a.csv", table="T")
        assert (caught.value.receipt.retries, exit_code_for(caught.value)) == (0, 2)
        await engine.aclose()
        engine = await stage.open_engine(url=emulator.url, ca_file=tmp_path / "ca.pem")
        assert (await engine.push(tmp_path / "a.csv", table="T")).rows == 2
        assert await emulator.query("select count(*) from T") == [(2,)]
        await engine.aclose()
