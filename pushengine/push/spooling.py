"""Pushes of sources that can be read only once: spool them to disk, hold the file during the push, delete it afterwards."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pushengine import events
from pushengine.errors import JournalError
from pushengine.pipeline.context import Shared
from pushengine.push.cleanup import delete_spool
from pushengine.push.opening import PushRequest
from pushengine.push.run import PushRun
from pushengine.runtime.aio import announce_when_slow, finish
from pushengine.sources.pipes import Pipe, find_pipe
from pushengine.sources.registry import names_paths
from pushengine.sources.spool import Spooled, SpoolHold, discard, is_byte_stream, spool_source, stream_name
from pushengine.sources.threaded import open_async_source


class SpoolKeeper:
    """Writes sources to the spool, and holds and deletes the spool files.

    One keeper serves one push.

    Args:
        folder: The spool folder, as an absolute path.
        shared: Journal, files and threads.
    """

    def __init__(self, folder: Path, shared: Shared) -> None:
        self._folder = folder
        self._shared = shared

    async def keep(self, request: PushRequest, push_id: str, hold: SpoolHold, *, always: bool = False) -> PushRequest:
        """Write the source to the spool if it is a stream of bytes, and return the request to push from there; `hold` then holds the file.

        Other sources are written only with `always`; without it, their request is returned unchanged.

        Raises:
            ConfigError: A pipe is one of several sources.
            SourceError: The source cannot be read. As after every failure, the push is recorded as failed.
            JournalError: The spool cannot be written.
        """
        pipe = await self._shared.runtime.off_loop(find_pipe, request.spec) if names_paths(request.spec) else None
        if pipe is not None:
            with pipe:
                return await self._keep(request, pipe, push_id, hold)
        if always or is_byte_stream(request.spec):
            return await self._keep(request, request.spec, push_id, hold)
        return request

    async def _keep(self, request: PushRequest, source: Any, push_id: str, hold: SpoolHold) -> PushRequest:
        unplanned = PushRun(request, self._shared, push_id)
        waiting = events.WaitStarted(push_id=push_id, reason="the stream is written to disk first")
        try:
            await unplanned.take_slot()
            with announce_when_slow(functools.partial(unplanned.emit, waiting)):
                path, digest = await self._spool(request, source, push_id, hold)
        except BaseException as error:  # noqa: BLE001 - fail() raises it or its real cause
            await unplanned.fail(error)
        # The digest is part of the identity: the same command with the same content continues the same push.
        return dataclasses.replace(
            request,
            spec=path,
            name=stream_name(source) if is_byte_stream(source) else request.label,
            content=f"stream {path.suffix} {digest}",
            source_format=None,  # the spool file's suffix gives the format
            arrow_schema=None,
        )

    async def _spool(self, request: PushRequest, source: Any, push_id: str, hold: SpoolHold) -> Spooled:
        source_format = request.source_format or (source.format if isinstance(source, Pipe) else None)
        runtime = self._shared.runtime
        workers = runtime.new_workers()
        open_rows = functools.partial(
            open_async_source,
            source,
            read=workers.read,
            format=source_format,
            schema=request.arrow_schema,
            settings=self._shared.engine_settings,
            filesystem=runtime.filesystem,
        )
        try:
            try:
                return await spool_source(
                    source,
                    self._folder,
                    push_id,
                    hold=hold,
                    source_format=source_format,
                    open_rows=open_rows,
                    off_loop=runtime.off_loop,
                )
            finally:
                await workers.aclose()
        except BaseException:
            # A cancellation may arrive after the file is complete, while the source is being closed.
            discard(hold, *self._folder.glob(f"{push_id}.*"))
            raise

    @contextlib.asynccontextmanager
    async def held(self, spec: Any, hold: SpoolHold) -> AsyncIterator[None]:
        """Hold the source if it is a spool file; afterwards delete it, unless an open or unknown push reads it."""
        path = Path(spec) if isinstance(spec, str | Path) else None
        if path is not None and path.parent != self._folder:
            path = None
        if path is not None:
            hold.take(path)
        try:
            yield
        finally:
            hold.release()
            if path is not None:
                await finish(self._forget(path))

    async def _forget(self, path: Path) -> None:
        with contextlib.suppress(JournalError):  # the journal cannot say whether a push needs the file: keep it
            await delete_spool(path, journal=self._shared.journal, off_loop=self._shared.runtime.off_loop)
