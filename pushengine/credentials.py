"""Credentials as plain values. `pushengine.celonis.oauth` turns them into Authorization headers.

Secrets are held as `Secret`, so that no `repr`, log line or pickle shows them. Whitespace around a pasted value is stripped. Anything
else that cannot be part of a credential is rejected here, before any request is sent.
"""

from __future__ import annotations

import dataclasses
import urllib.parse
from typing import Literal, TypeAlias

from pushengine.errors import ConfigError
from pushengine.redaction import Secret

DEFAULT_SCOPE = "integration.data-pools:data_push"
ClientAuthMethod = Literal["auto", "basic", "post"]


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class OAuthClient:
    """An OAuth client of the team, used with the client credentials grant (recommended).

    Args:
        client_id: Client id, as shown in the team's settings.
        client_secret: Client secret that belongs to the id.
        scope: Scopes to request, separated by spaces. Requesting a scope that the client does not hold fails the whole grant.
        token_url: Token endpoint; None means the team's own.
        method: Authentication method the client is registered for: `basic` (client_secret_basic), `post` (client_secret_post), or `auto`
            to try both.

    Raises:
        ConfigError: `method` is unknown, or a value cannot be valid: it is empty, or contains whitespace or control characters.
    """

    client_id: str
    client_secret: Secret
    scope: str
    token_url: str | None
    method: ClientAuthMethod

    def __init__(
        self,
        client_id: str,
        client_secret: str | Secret,
        scope: str = DEFAULT_SCOPE,
        token_url: str | None = None,
        method: ClientAuthMethod = "auto",
    ) -> None:
        if method not in ("auto", "basic", "post"):
            raise ConfigError(
                f"unknown client authentication method {method!r}", key="method", hint="use auto, basic or post"
            )
        object.__setattr__(self, "client_id", _clean(client_id, "client_id"))
        object.__setattr__(self, "client_secret", Secret(_clean(client_secret, "client_secret")))
        object.__setattr__(self, "scope", " ".join(_printable(word, "scope") for word in scope.split()))
        object.__setattr__(self, "token_url", token_url)
        object.__setattr__(self, "method", method)

    @property
    def basic_pair(self) -> Secret:
        """Id and secret as the Basic scheme joins them before it encodes them in base64 (RFC 6749, 2.3.1)."""
        return Secret(":".join(map(urllib.parse.quote_plus, (self.client_id, self.client_secret.reveal()))))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything that no message may show, in plain form or encoded: a server may echo the Basic header."""
        return self.client_secret, self.basic_pair


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class UserApiKey:
    """A user's API key, sent as `Bearer`. It has the permissions of its user."""

    key: Secret

    def __init__(self, key: str | Secret) -> None:
        object.__setattr__(self, "key", Secret(_header_value(key, "api_key")))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything that no message may show."""
        return (self.key,)


@dataclasses.dataclass(frozen=True, slots=True, init=False)
class AppKey:
    """An application key, sent as `AppKey`. It has only the permissions that it has been granted explicitly."""

    key: Secret

    def __init__(self, key: str | Secret) -> None:
        object.__setattr__(self, "key", Secret(_header_value(key, "app_key")))

    @property
    def secrets(self) -> tuple[Secret, ...]:
        """Everything that no message may show."""
        return (self.key,)


Credentials: TypeAlias = OAuthClient | UserApiKey | AppKey


def _clean(value: str | Secret, name: str) -> str:
    """Strip surrounding whitespace and validate the text. Error messages never show it."""
    text = (value.reveal() if isinstance(value, Secret) else value).strip()
    if not text:
        raise ConfigError(f"{name} is empty", key=name)
    return _printable(text, name)


def _printable(text: str, name: str) -> str:
    if any(character.isspace() for character in text):
        raise ConfigError(
            f"{name} contains whitespace",
            key=name,
            hint="give only the value, without a leading 'Bearer' or 'AppKey'",
        )
    if not text.isprintable():
        raise ConfigError(
            f"{name} contains control characters", key=name, hint="copy it again from where it was issued"
        )
    return text


def _header_value(value: str | Secret, name: str) -> str:
    text = _clean(value, name)
    if not text.isascii():
        raise ConfigError(
            f"{name} contains characters that a key cannot contain",
            key=name,
            hint="copy it again from where it was issued",
        )
    return text
