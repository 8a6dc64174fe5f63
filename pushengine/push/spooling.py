"""Pushes of sources that can be read only once: spool them to disk, hold the file during the push, delete it afterwards."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pushengine.errors import JournalError
from pushengine.pipeline.context import Shared
from pushengine.push.cleanup import delete_spool
from pushengine.runtime.aio import finish
from pushengine.sources.spool import Spooled, SpoolHold, discard, spool_source
from pushengine.sources.threaded import open_async_source


class SpoolKeeper:
    """Writes sources to the spool, and holds and deletes the spool files.

    Args:
        folder: The spool folder, as an absolute path.
        shared: Journal, files and threads.
    """

    def __init__(self, folder: Path, shared: Shared) -> None:
        self._folder = folder
        self._shared = shared

    async def keep(
        self, source: Any, push_id: str, hold: SpoolHold, *, source_format: str | None, schema: Any
    ) -> Spooled:
        """Write a source to the spool; `hold` then holds its file.

        Raises:
            SourceError: The source cannot be read.
            JournalError: The spool cannot be written.
        """
        runtime = self._shared.runtime
        workers = runtime.new_workers()
        open_rows = functools.partial(
            open_async_source,
            source,
            read=workers.read,
            format=source_format,
            schema=schema,
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
