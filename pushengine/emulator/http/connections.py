"""Connections whose client stalls: one that never finishes a request, or never reads the response, is cut.

aiohttp waits without a limit for the head of the first request, and for a client to read. `messages.iter_body` watches the body.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

_CHECKS_PER_TIMEOUT = 4


SERVER_LOG = logging.getLogger("pushengine.emulator.http")
"""Where aiohttp logs: failures of its own, but not each request that is no HTTP, which it answers with a 400."""


def _is_failure(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


SERVER_LOG.addFilter(_is_failure)


class Connections:
    """The open connections; each is cut once its client has made no progress for `timeout_seconds`.

    Time that the emulator takes to process a request does not count, nor does time between two requests.
    """

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout_seconds = timeout_seconds
        self._open: dict[Any, _WatchedConnection] = {}

    def __len__(self) -> int:
        return len(self._open)

    def watched(self, build: Callable[[], Any]) -> Callable[[], asyncio.Protocol]:
        """Return a factory of protocols that watches those that `build` builds."""

        def build_watched() -> asyncio.Protocol:
            inner = build()
            self._open[inner] = _WatchedConnection(inner, self._timeout_seconds, lambda: self._open.pop(inner))
            return self._open[inner]

        return build_watched

    @contextlib.contextmanager
    def processing(self, request: web.Request) -> Iterator[None]:
        """Record, while the context is open, that the emulator processes a request."""
        connection = self._open.get(request.protocol)
        if connection is not None:
            connection.is_busy = True
        try:
            yield
        finally:
            if connection is not None:
                connection.is_busy = connection.awaits_request = False


class _WatchedConnection(asyncio.Protocol):
    """A connection that is passed through to aiohttp and watched."""

    def __init__(self, inner: Any, timeout_seconds: float, on_lost: Callable[[], object]) -> None:
        self.is_busy = False
        self.awaits_request = True
        self._inner = inner
        self._on_lost = on_lost
        self._check_seconds = timeout_seconds / _CHECKS_PER_TIMEOUT
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._checks_without_progress = 0
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start to watch."""
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
        self._inner.connection_made(transport)
        self._schedule()

    def data_received(self, data: bytes) -> None:
        """Pass data on."""
        self._checks_without_progress = 0
        self.awaits_request = True
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        """Pass the end of the data on."""
        keeps_open: bool | None = self._inner.eof_received()
        return keeps_open

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch."""
        if self._timer is not None:
            self._timer.cancel()
        self._on_lost()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass on that the client reads too slowly."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass on that the client has read."""
        self._inner.resume_writing()

    def _schedule(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._check_seconds, self._check)

    def _check(self) -> None:
        if self._transport is None:
            return
        unsent_bytes = self._transport.get_write_buffer_size()
        waits_for_client = unsent_bytes > 0 or self.awaits_request
        if self.is_busy or unsent_bytes != self._unsent_bytes or not waits_for_client:
            self._checks_without_progress = 0
        else:
            self._checks_without_progress += 1
        self._unsent_bytes = unsent_bytes
        if self._checks_without_progress >= _CHECKS_PER_TIMEOUT:
            self._transport.abort()
        else:
            self._schedule()
