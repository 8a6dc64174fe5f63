"""The ways the API says no, with the bodies it says it in.

{"error": ...}                                                      authentication
{"errors": [{"attribute", "error", "errorCode", "additionalInfo"}]} a bad field of a job
{"reference", "message", "shortMessage"}                            a bad file, a missing job, a conflict
{"title", "status", "detail", "errorCode"}                          the gateway
"""

import uuid
from collections.abc import Mapping
from typing import Any


class Refusal(Exception):  # noqa: N818 - an answer, not a failure of the emulator
    """A request answered with an error status; `body` is JSON, plain text or nothing."""

    def __init__(self, status: int, body: Mapping[str, Any] | str | None = None, **headers: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def invalid_field(attribute: str, error: str, code: str, info: str | None = None) -> Refusal:
    """A 400 about one field of a job."""
    entry = {"attribute": attribute, "error": error, "errorCode": code, "additionalInfo": info}
    return Refusal(400, {"errors": [entry]})


def refusal(status: int, message: str, short_message: str) -> Refusal:
    """An answer with a support reference and a message for people."""
    return Refusal(status, {"reference": str(uuid.uuid4()), "message": message, "shortMessage": short_message})


def invalid_file(message: str) -> Refusal:
    """A 400 about an uploaded file."""
    return refusal(400, message, "Invalid file")


def not_found(what: str) -> Refusal:
    """A 404 that names what is missing."""
    return refusal(404, f"{what} does not exist.", "Not found")


def gateway(status: int, title: str, detail: str, code: str, **headers: str) -> Refusal:
    """An answer of the gateway in front of the API."""
    return Refusal(status, {"title": title, "status": status, "detail": detail, "errorCode": code}, **headers)
