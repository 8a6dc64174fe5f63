"""Secrets stay out of messages and log lines in every form in which a request carries them."""

import base64

import pytest

from pushengine.celonis.error_responses import parse_token_error
from pushengine.celonis.oauth import TokenSource, build_token_request
from pushengine.celonis.wire import ApiResponse
from pushengine.credentials import AppKey, OAuthClient, UserApiKey
from pushengine.redaction import mask, redact, remember_secrets
from pushengine.runtime.clock import SystemClock

CLIENT = OAuthClient("my client".replace(" ", "-"), "s3cret/value+xyz")


async def unused(_request):
    raise AssertionError


@pytest.mark.parametrize("method", ["basic", "post"])
def test_a_token_endpoint_that_echoes_the_request_reveals_nothing(method):
    """The Basic header decodes to the secret."""
    request = build_token_request(CLIENT, method)
    echo = f"bad request: Authorization: {request.authorization} {'&'.join('='.join(pair) for pair in request.form.items())}"
    error = parse_token_error(
        ApiResponse(500, {}, echo.encode()),
        operation="get an access token",
        scope="",
        now=0.0,
        secrets=TokenSource(CLIENT, unused, SystemClock()).secrets(),
    )
    assert "bad request" in error.message
    assert "***" in error.message
    assert "s3cret" not in error.message
    assert base64.b64encode(CLIENT.basic_pair.reveal().encode()).decode() not in error.message


def test_log_lines_mask_the_basic_header(monkeypatch):
    monkeypatch.setattr("pushengine.redaction._secrets", set())
    remember_secrets(CLIENT.secrets)
    assert mask(f"sent {build_token_request(CLIENT, 'basic').authorization}") == "sent Basic ***"


@pytest.mark.parametrize("credentials", [UserApiKey("abcdefgh"), AppKey("abcdefgh")], ids=["user key", "app key"])
def test_keys_are_masked(credentials):
    secrets = [secret.reveal() for secret in credentials.secrets]
    assert redact("the key is abcdefgh", secrets) == "the key is ***"
