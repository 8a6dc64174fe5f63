"""Secrets and foreign text: what is hidden, and what is cut off, before anyone reads it."""

from __future__ import annotations

import base64
import urllib.parse
from collections.abc import Collection, Iterable
from typing import NoReturn

MASKED = "***"
MAX_ERROR_TEXT_BYTES = 2048
_SHORTEST_MASKED = 4  # masking shorter values would garble ordinary words
_secrets: set[str] = set()
"""What this process hides, in every form: made once, since each log line is searched for all of it."""


class Secret:
    """A value that shows itself nowhere: not in `repr`, `str`, `format`, pickles or JSON. `reveal()` gives the text."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The secret itself; for the one place that sends it."""
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
        raise TypeError("a Secret is not pickled")


def remember_secrets(secrets: Iterable[Secret]) -> None:
    """From now on `mask` and the log lines of this process hide these values."""
    _secrets.update(_forms_of(text for secret in secrets if len(text := secret.reveal()) >= _SHORTEST_MASKED))


def mask(text: str) -> str:
    """The text without the secrets that this process knows."""
    return _without(text, _secrets)


def clean_text(text: str) -> str:
    """One line without control characters or runs of white space."""
    spaced = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(spaced.split())


def redact(text: str, secrets: Collection[str]) -> str:
    """The text without these values and their base64, should it repeat them."""
    return _without(text, _forms_of(secret for secret in secrets if secret))


def _forms_of(secrets: Iterable[str]) -> set[str]:
    """Secrets as they are, in base64, and as URLs and forms quote them."""
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


def _without(text: str, forms: Collection[str]) -> str:
    for form in sorted(forms, key=len, reverse=True):  # the longest first: a shorter one may be a part of it
        text = text.replace(form, MASKED)
    return text


def clip_text(text: str, max_bytes: int = MAX_ERROR_TEXT_BYTES) -> str:
    """The text within a number of UTF-8 bytes, with an ellipsis where it was cut."""
    raw = text.encode()
    return text if len(raw) <= max_bytes else raw[: max_bytes - 3].decode(errors="ignore") + "…"
