from __future__ import annotations

import pickle

import pytest

from pushengine.credentials import AppKey, OAuthClient, UserApiKey
from pushengine.errors import ConfigError
from pushengine.redaction import Secret

MARKER = "s3cr3t-M4RKER"


@pytest.mark.parametrize("build", [UserApiKey, AppKey, lambda value: OAuthClient("client", value)])
@pytest.mark.parametrize("as_secret", [False, True], ids=["text", "Secret"])
def test_a_secret_is_kept_as_a_secret_and_never_shown(build, as_secret):
    credentials = build(Secret(MARKER) if as_secret else MARKER)
    assert MARKER not in repr(credentials) + str(credentials) + f"{credentials}"
    held = credentials.client_secret if isinstance(credentials, OAuthClient) else credentials.key
    assert held.reveal() == MARKER
    with pytest.raises(TypeError):
        pickle.dumps(credentials)


@pytest.mark.parametrize("kind", [UserApiKey, AppKey])
def test_whitespace_around_a_pasted_key_is_removed(kind):
    assert kind(" \tabc\r\n").key.reveal() == "abc"


@pytest.mark.parametrize("value", ["", "  \n", "abc def", "Bearer abc", "ab\x00c", "ab\nc", "ab\x7fc"], ids=repr)
@pytest.mark.parametrize("build", [UserApiKey, AppKey, lambda value: OAuthClient("client", value)])
def test_an_invalid_secret_is_refused_without_showing_it(build, value):
    with pytest.raises(ConfigError) as caught:
        build(value)
    assert caught.value.key
    assert not value.strip() or value not in str(caught.value)


def test_a_key_that_is_not_ascii_is_refused():
    with pytest.raises(ConfigError):
        UserApiKey("schlüssel")


def test_scopes_are_separated_by_one_space_and_may_be_empty():
    assert OAuthClient("c", "s", scope=" a  b ").scope == "a b"
    assert OAuthClient("c", "s", scope="").scope == ""
    with pytest.raises(ConfigError):
        OAuthClient("c", "s", scope="a\x01b")


def test_an_unknown_client_authentication_method_is_refused():
    with pytest.raises(ConfigError):
        OAuthClient("c", "s", method="jwt")


def test_credentials_are_frozen():
    with pytest.raises(AttributeError):
        UserApiKey("abc").key = Secret("other")
