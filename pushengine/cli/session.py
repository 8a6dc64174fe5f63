"""What a command works with: the configuration, an engine, an emulator. Each is imported by the command that opens it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pushengine.cli.database_file import check_database, database_errors
from pushengine.cli.options import LogFormatName
from pushengine.errors import ConfigError

if TYPE_CHECKING:
    from pushengine.config.load import Config
    from pushengine.emulator import Emulator, EmulatorSettings
    from pushengine.emulator.faults import FaultPlan
    from pushengine.engine import PushEngine
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
    """What flags, environment and config file say; from here on no message shows its secrets.

    Raises:
        ConfigError: A bad file, key or value.
    """
    from pushengine.config import load as settings
    from pushengine.credentials import OAuthClient
    from pushengine.redaction import remember_secrets

    flags = settings.Flags(
        config=config,
        url=url,
        pool_id=pool,
        connection_id=connection,
        log_format=log_format.value if log_format else None,
    )
    loaded = settings.load_config(flags, wants_credentials=wants_credentials)
    if loaded.credentials is not None:
        who = loaded.credentials
        remember_secrets([who.client_secret if isinstance(who, OAuthClient) else who.key])
    return loaded


def open_engine(config: Config, *, sinks: Sequence[EventSink] = ()) -> PushEngine:
    """An engine for the configured team and pool, to be entered.

    Raises:
        ConfigError: No team, pool or credentials, or bad ones.
    """
    from pushengine.engine import PushEngine
    from pushengine.runtime.threads import prefer_jemalloc

    prefer_jemalloc()
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
    database: Path | None, *, option: str = "--database", port: int = 0, settings: EmulatorSettings | None = None
) -> AsyncIterator[Emulator]:
    """A running emulator.

    Args:
        database: The DuckDB file of its tables; None keeps them in memory.
        option: The option that named the file, for messages.
        port: Port to listen on; 0 takes a free one.
        settings: What the team looks like.

    Raises:
        ConfigError: The port or the database file cannot be used.
    """
    from pushengine.emulator import Emulator

    if database is not None:
        check_database(database, option)
    emulator = Emulator(database, port=port, settings=settings)
    with database_errors(database, option):
        try:
            await emulator.start()
        except OSError as error:
            raise ConfigError(
                f"the emulator cannot listen on port {port}: {error.strerror}",
                key="--port",
                hint="--port 0 takes a free one",
            ) from error
    try:
        yield emulator
    finally:
        await emulator.aclose()


def load_fault_plan(path: Path) -> FaultPlan:
    """What a plan file says goes wrong.

    Raises:
        ConfigError: It cannot be read, or says something impossible.
    """
    from pushengine.emulator.faults import FaultPlan, FaultPlanError

    try:
        return FaultPlan.from_file(path)
    except OSError as error:
        raise ConfigError(f"cannot read the fault plan {path}: {error.strerror}", key="--faults") from error
    except FaultPlanError as error:
        raise ConfigError(
            f"bad fault plan: {error}", key="--faults", hint="the head of pushengine/emulator/faults.py shows one"
        ) from error


async def embed_emulator(stack: contextlib.AsyncExitStack, config: Config, database: Path | None) -> Config:
    """Start an emulator that ends with the stack, and point the configuration at it; its quota is nobody's, so it has its own ledger."""
    import tempfile

    from pushengine.credentials import UserApiKey

    emulator = await stack.enter_async_context(open_emulator(database, option="--emulator"))
    state = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushengine-"))
    return dataclasses.replace(
        config,
        url=emulator.url,
        pool_id=EMULATOR_POOL,
        credentials=UserApiKey("emulator-key"),
        state_dir=Path(state),
    )
