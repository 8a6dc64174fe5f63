"""Every operation with every HTTP error status: which error it raises, and whether to try again."""

from __future__ import annotations

import contextlib
import functools
import re
from http import HTTPStatus
from types import SimpleNamespace

import aiohttp
import pytest
from aioresponses import aioresponses

from pushengine import errors
from pushengine.celonis.data_push import DataPushClient
from pushengine.credentials import UserApiKey
from pushengine.model import Payload, TableColumn, Target

OPERATIONS = {
    "create": ("post", lambda client: client.create_job(Target("T"), [TableColumn("A", "DATE")])),
    "list": ("get", lambda client: client.list_jobs()),
    "get": ("get", lambda client: client.get_job("J")),
    "upload": (
        "post",
        lambda client: client.upload_chunk("J", Payload("1", memoryview(b"x"), 1, (0, 1), {}), "UPSERT"),
    ),
    "chunks": ("get", lambda client: client.list_chunks("J")),
    "submit": ("post", lambda client: client.submit_job("J", duplicate_removal_column=None)),
    "delete": ("delete", lambda client: client.delete_job("J")),
    "team": ("get", lambda client: client.check_team()),
    "columns": ("get", lambda client: client.table_columns("T", "c1")),
}
NAMED = {
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    407: errors.AuthenticationError,
    409: errors.ConflictError,
    413: errors.PayloadTooLargeError,
    421: errors.ForeignResponseError,
    501: errors.ForeignResponseError,
    429: errors.RateLimitedError,
}
CLASSES = {3: errors.ForeignResponseError, 4: errors.InvalidRequestError, 5: errors.ServerError}
STATUSES = [status.value for status in HTTPStatus if status >= 300]
UNCLEAR_STATUSES = [408, 421, 425, *(status for status in STATUSES if status >= 500 or status < 400)]
"""Statuses that do not prove a refusal. An idempotent call may be repeated; for any other, the outcome must be determined first."""

# aioresponses 0.7.9 does not pass the argument `stream_writer`, which aiohttp 3.14 requires
Response = functools.partial(aiohttp.ClientResponse, stream_writer=SimpleNamespace(output_size=0))


@pytest.mark.parametrize("operation", OPERATIONS)
async def test_each_status_raises_its_error_after_one_request(operation):
    method, call = OPERATIONS[operation]
    async with contextlib.aclosing(DataPushClient("http://localhost", "pool", UserApiKey("key"))) as client:
        for status in STATUSES:
            kind = NAMED.get(status, CLASSES[status // 100])
            disposition = "transient" if status in (*UNCLEAR_STATUSES, 429) else "terminal"
            if method == "post" and status in UNCLEAR_STATUSES:
                disposition = "outcome_unknown"
            with aioresponses() as team:
                team.add(re.compile("http://localhost/"), method, status, response_class=Response)
                if (operation, status) == ("delete", 404):
                    await call(client)  # the job is already gone
                    continue
                with pytest.raises(errors.ApiError) as caught:
                    await call(client)
                error = caught.value
                assert (type(error), error.status, error.disposition) == (kind, status, disposition)
                assert [len(requests) for requests in team.requests.values()] == [1]
