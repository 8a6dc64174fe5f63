"""The error responses of the API, and the formats of their bodies.

{"error": ...}                                                      authentication
{"errors": [{"attribute", "error", "errorCode", "additionalInfo"}]} an invalid field of a job
{"reference", "message", "shortMessage"}                            an invalid file, a missing job, a conflict
{"title", "status", "detail", "errorCode"}                          the gateway
"""

import uuid
from collections.abc import Mapping
from typing import Any


class Refusal(Exception):  # noqa: N818 - an error response, not a failure of the emulator
    """An error response to a request; `body` is JSON, plain text or None for an empty body."""

    def __init__(self, status: int, body: Mapping[str, Any] | str | None = None, **headers: str) -> None:
        super().__init__(status, body)
        self.status = status
        self.body = body
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def invalid_field(attribute: str, error: str, code: str, info: str | None = None) -> Refusal:
    """Build the 400 response for an invalid field of a job."""
    entry = {"attribute": attribute, "error": error, "errorCode": code, "additionalInfo": info}
    return Refusal(400, {"errors": [entry]})


def refusal(status: int, message: str, short_message: str) -> Refusal:
    """Build an error response with a support reference and a human-readable message."""
    return Refusal(status, {"reference": str(uuid.uuid4()), "message": message, "shortMessage": short_message})


def internal_error(reference: str) -> Refusal:
    """Build the 500 response for a bug of the emulator, with the reference that its log names too."""
    message = "An internal error occurred."
    return Refusal(500, {"reference": reference, "message": message, "shortMessage": "Internal error"})


def invalid_file(message: str) -> Refusal:
    """Build the 400 response for an invalid uploaded file."""
    return refusal(400, message, "Invalid file")


def not_found(what: str) -> Refusal:
    """Build the 404 response that names what is missing."""
    return refusal(404, f"{what} does not exist.", "Not found")


def gateway(status: int, title: str, detail: str, code: str, **headers: str) -> Refusal:
    """Build an error response of the gateway in front of the API."""
    return Refusal(status, {"title": title, "status": status, "detail": detail, "errorCode": code}, **headers)
