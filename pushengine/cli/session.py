"""Load the configuration, and open an engine or an emulator, for a command. Functions import what they need, which keeps startup fast."""

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
    """Load the configuration from flags, environment and config file, and register its secrets for masking in all output.

    Raises:
        ConfigError: A bad file, key or value.
    """
    from pushengine.config import load as settings
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
        remember_secrets(loaded.credentials.secrets)
    return loaded


def open_engine(config: Config, *, sinks: Sequence[EventSink] = ()) -> PushEngine:
    """Return an engine for the configured team and pool; use it with `async with`.

    Raises:
        ConfigError: Team, pool or credentials are missing or bad.
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
    """Run an emulator while the context is open.

    Args:
        database: The DuckDB file for the tables; None keeps them in memory.
        option: The option that named the file, for messages.
        port: Port to listen on; 0 takes a free one.
        settings: Settings of the emulated team; None means the defaults.

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
    """Read a fault plan, which says what goes wrong in the emulator.

    Raises:
        ConfigError: The file cannot be read, or the plan is not valid.
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
    """Start an emulator that stops when the stack closes, and return the configuration changed to use it."""
    import tempfile

    from pushengine.credentials import UserApiKey

    emulator = await stack.enter_async_context(open_emulator(database, option="--emulator"))
    # A state folder of its own: submits to the emulator must not count against the quota of a real team.
    state = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushengine-"))
    return dataclasses.replace(
        config,
        url=emulator.url,
        pool_id=EMULATOR_POOL,
        credentials=UserApiKey("emulator-key"),
        state_dir=Path(state),
    )
