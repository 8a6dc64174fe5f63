"""Hide secrets in text, and clean and shorten text from outside before it is shown or logged."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Collection, Iterable
from typing import NoReturn

MASKED = "***"
MAX_ERROR_TEXT_BYTES = 2048
_SHORTEST_MASKED = 4  # masking shorter values would garble ordinary words
_secrets: set[str] = set()
"""The secrets that this process hides, in all encoded forms. Computed once, because each log line is searched for all of them."""


class Secret:
    """A string that stays out of `repr`, `str`, `format`, pickles and JSON. `reveal()` returns the text."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret text. Call this only where it is sent or must be removed from other text."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


def remember_secrets(secrets: Iterable[Secret]) -> None:
    """Make `mask` and the log lines of this process hide these values from now on."""
    _secrets.update(_encodings_of(text for secret in secrets if len(text := secret.reveal()) >= _SHORTEST_MASKED))


def mask(text: str) -> str:
    """Return the text with every secret known to this process masked."""
    return _masked(text, _secrets)


def clean_text(text: str) -> str:
    """Return the text as one line, without control characters or runs of whitespace."""
    spaced = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(spaced.split())


def redact(text: str, secrets: Collection[str]) -> str:
    """Return the text with these values masked, including their base64 and URL-quoted forms."""
    return _masked(text, _encodings_of(secret for secret in secrets if secret))


def _encodings_of(secrets: Iterable[str]) -> set[str]:
    """Return each secret in plain form, in base64, and quoted as in URLs and in form bodies."""
    return {
        form
        for secret in secrets
        for form in (
            secret,
            base64.b64encode(secret.encode()).decode("ascii"),
            urllib.parse.quote(secret, safe=""),
            urllib.parse.quote_plus(secret),
        )
    }


def _masked(text: str, forms: Collection[str]) -> str:
    for form in sorted(forms, key=len, reverse=True):  # longest first: a shorter form may be part of a longer one
        text = text.replace(form, MASKED)
    return text


def clip_text(text: str, max_bytes: int = MAX_ERROR_TEXT_BYTES) -> str:
    """Return the text cut to at most `max_bytes` bytes of UTF-8, with an ellipsis if it was cut."""
    raw = text.encode()
    return text if len(raw) <= max_bytes else raw[: max_bytes - 3].decode(errors="ignore") + "…"
