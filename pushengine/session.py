"""What a command works with: the configuration, an engine, an emulator. Each is imported by the command that opens it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pushengine.errors import ConfigError
from pushengine.options import LogFormatName

if TYPE_CHECKING:
    from pushengine.api import PushEngine
    from pushengine.config import Config
    from pushengine.emulator import Emulator, EmulatorSettings
    from pushengine.events import EventSink

EMULATOR_POOL = "00000000-0000-4000-8000-000000000001"


def load_config(
    *,
    config: Path | None,
    url: str | None = None,
    pool: str | None = None,
    connection: str | None = None,
    log_format: LogFormatName | None = None,
    wants_credentials: bool = True,
) -> Config:
    from pushengine.auth import OAuthClient
    from pushengine.config import Flags, load_config
    from pushengine.telemetry import remember_secrets

    flags = Flags(
        config=config,
        url=url,
        pool_id=pool,
        connection_id=connection,
        log_format=log_format.value if log_format else None,
    )
    loaded = load_config(flags, wants_credentials=wants_credentials)
    if loaded.credentials is not None:
        who = loaded.credentials
        remember_secrets([who.client_secret if isinstance(who, OAuthClient) else who.key])
    return loaded


def open_engine(config: Config, *, sinks: Sequence[EventSink] = ()) -> PushEngine:
    from pushengine.api import PushEngine

    return PushEngine(
        config.require_url(),
        pool_id=config.require_pool_id(),
        auth=config.require_credentials(),
        connection_id=config.connection_id,
        settings=config.engine,
        state_dir=config.state_dir,
        sinks=sinks,
    )


@contextlib.asynccontextmanager
async def open_emulator(
    database: Path | None, *, port: int = 0, settings: EmulatorSettings | None = None
) -> AsyncIterator[Emulator]:
    """A running emulator.

    Raises:
        ConfigError: The port or the database file cannot be used.
    """
    import duckdb

    from pushengine.emulator import Emulator

    emulator = Emulator(database, port=port, settings=settings)
    try:
        await emulator.start()
    except OSError as error:
        raise ConfigError(f"the emulator cannot listen on port {port}: {error.strerror}", key="--port") from error
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"the emulator cannot use {database}: {reason}", key="--emulator") from error
    try:
        yield emulator
    finally:
        await emulator.aclose()


async def embed_emulator(stack: contextlib.AsyncExitStack, config: Config, database: Path | None) -> Config:
    """Start an emulator that ends with the stack, and point the configuration at it; its quota is nobody's, so it has its own ledger."""
    import tempfile

    from pushengine.auth import UserApiKey

    emulator = await stack.enter_async_context(open_emulator(database))
    state = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushengine-"))
    return dataclasses.replace(
        config,
        url=emulator.url,
        pool_id=EMULATOR_POOL,
        credentials=UserApiKey("emulator-key"),
        state_dir=Path(state),
    )
