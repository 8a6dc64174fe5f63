"""A server in a thread of its own that stands between a command and the emulator."""

import asyncio
import contextlib
import threading

import aiohttp
from aiohttp import web

_SKIPPED = {"content-length", "transfer-encoding", "content-encoding", "connection", "date", "server", "host"}


def forwarded(headers):
    """Return the headers that a proxy passes on."""
    return {name: value for name, value in headers.items() if name.lower() not in _SKIPPED}


class Proxy:
    """The thread and its server; a subclass says how to respond. Used in a `with` block.

    Attributes:
        url: Its address.
        client: Client for the requests to the emulator.
    """

    def __init__(self):
        self.url = self.client = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self):
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def respond(self, request):
        """Respond to one request."""
        raise NotImplementedError

    async def _serve(self):
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with contextlib.AsyncExitStack() as stack:
            self.client = await stack.enter_async_context(aiohttp.ClientSession())
            runner = web.ServerRunner(web.Server(self.respond))  # routes would not match line breaks
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._started.set()
            await self._stop.wait()
