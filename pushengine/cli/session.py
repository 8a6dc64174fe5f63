"""Load the configuration, and open an engine or an emulator, for a command. Functions import what they need, which keeps startup fast."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pushengine.cli import terminal
from pushengine.cli.database_file import check_database, database_errors
from pushengine.cli.options import LogFormatName
from pushengine.errors import ConfigError
from pushengine.state.file_errors import setting_errors, status, temporary_folder

if TYPE_CHECKING:
    from pushengine.config.load import Config, Flags
    from pushengine.config.loads.resolved import Loads
    from pushengine.emulator import Emulator, EmulatorSettings, LocalCertificate
    from pushengine.emulator.faults import FaultPlan
    from pushengine.engine import PushEngine
    from pushengine.events import EventSink
    from pushengine.host import EngineHost
    from pushengine.journal.store import JournalFile
    from pushengine.journal.tables import TableMemory

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

    flags = _flags(config, url, pool, connection, log_format)
    loaded = settings.load_config(flags, wants_credentials=wants_credentials)
    terminal.log_format.pool = loaded.pool_id
    terminal.log_format.use(loaded.log.format)
    if loaded.credentials is not None:
        remember_secrets(loaded.credentials.secrets)
    return loaded


def load_loads(
    *,
    config: Path | None,
    url: str | None = None,
    pool: str | None = None,
    connection: str | None = None,
    log_format: LogFormatName | None = None,
    wants_credentials: bool = True,
) -> tuple[Config, Loads]:
    """Load the configuration with its loads, and register its secrets for masking in all output.

    Raises:
        ConfigError: There is no config file, or something is wrong with it.
    """
    from pushengine.config.loads.reading import load_loads as read

    flags = _flags(config, url, pool, connection, log_format)
    loaded, loads = read(flags, wants_credentials=wants_credentials)
    terminal.log_format.pool = loaded.pool_id
    terminal.log_format.use(loaded.log.format)
    return loaded, loads


def _flags(
    config: Path | None, url: str | None, pool: str | None, connection: str | None, log_format: LogFormatName | None
) -> Flags:
    from pushengine.config.load import Flags

    return Flags(
        config=config,
        url=url,
        pool_id=pool,
        connection_id=connection,
        log_format=log_format.value if log_format else None,
    )


def open_host(config: Config, *, sinks: Sequence[EventSink] = ()) -> EngineHost:
    """Return what the engines of several targets share; use it with `async with`."""
    from pushengine.host import EngineHost
    from pushengine.runtime.threads import allow_many_files, prefer_jemalloc

    prefer_jemalloc()
    allow_many_files()
    return EngineHost(settings=config.engine, state_dir=config.state_dir, sinks=sinks)


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
    database: Path | None,
    *,
    option: str = "--database",
    port: int = 0,
    settings: EmulatorSettings | None = None,
    tls: LocalCertificate | None = None,
) -> AsyncIterator[Emulator]:
    """Run an emulator while the context is open.

    Args:
        database: The DuckDB file for the tables; None keeps them in memory.
        option: The option that named the file, for messages.
        port: Port to listen on; 0 takes a free one.
        settings: Settings of the emulated team; None means the defaults.
        tls: Certificate to serve https with; None serves http.

    Raises:
        ConfigError: The port or the database file cannot be used.
    """
    from pushengine.emulator import Emulator

    if database is not None:
        check_database(database, option)
    emulator = Emulator(database, port=port, settings=settings, tls=tls)
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


def make_certificate(folder: Path) -> tuple[LocalCertificate, Path]:
    """Make a certificate for this machine, and write the certificate of its CA to a new file in the folder.

    Raises:
        ConfigError: The extra `tls` is not installed.
    """
    from pushengine.emulator import LocalCertificate
    from pushengine.emulator.tls import TlsUnavailableError

    try:
        certificate = LocalCertificate()
    except TlsUnavailableError as error:
        raise ConfigError(
            "--tls needs trustme, which is not installed", key="--tls", hint="pip install 'pushengine[tls]'"
        ) from error
    certificate.write_ca(folder / "ca.pem")
    return certificate, folder / "ca.pem"


def load_fault_plan(path: Path) -> FaultPlan:
    """Read a fault plan, which says what goes wrong in the emulator.

    Raises:
        ConfigError: The file cannot be read, or the plan is not valid.
    """
    from pushengine.emulator import FaultPlan, FaultPlanError

    try:
        with setting_errors("cannot read the fault plan", path, key="--faults"):
            return FaultPlan.from_file(path)
    except FaultPlanError as error:
        raise ConfigError(
            f"bad fault plan: {error}", key="--faults", hint="the head of pushengine/emulator/faults.py shows one"
        ) from error


async def embed_emulator(stack: contextlib.AsyncExitStack, config: Config, database: Path | None) -> Config:
    """Start an emulator that stops when the stack closes, and return the configuration changed to use it.

    The state of a database file is kept in a folder beside it.
    """
    from pushengine.credentials import UserApiKey

    is_new = database is None or await asyncio.to_thread(_is_new, database)
    emulator = await stack.enter_async_context(open_emulator(database, option="--emulator"))
    terminal.log_format.pool = EMULATOR_POOL
    embedded = dataclasses.replace(
        config, url=emulator.url, pool_id=EMULATOR_POOL, credentials=UserApiKey("emulator-key")
    )
    # A state folder of its own: submits to the emulator must not count against the quota of a real team.
    if database is None:
        # The files that list rejected rows outlive it.
        listed = config.engine.model_copy(update={"rejects": config.engine.rejects or config.state.rejects})
        folder = stack.enter_context(temporary_folder("pushengine-"))
        return dataclasses.replace(embedded, engine=listed, state_dir=folder)
    embedded = dataclasses.replace(embedded, state_dir=state_beside(database))
    await asyncio.to_thread(_adopt_tables, embedded, is_new=is_new)
    return embedded


async def embed_emulator_for_loads(
    stack: contextlib.AsyncExitStack, config: Config, loads: Loads, database: Path | None
) -> tuple[Config, Loads]:
    """Start an emulator that stops when the stack closes, and return the configuration changed so that all targets are in it.

    The targets keep their pools and connections.
    """
    embedded = await embed_emulator(stack, config, database)
    targets = {
        name: dataclasses.replace(
            target,
            url=embedded.require_url(),
            pool_id=target.pool_id or EMULATOR_POOL,
            credentials=embedded.credentials,
        )
        for name, target in loads.targets.items()
    }
    return embedded, dataclasses.replace(loads, targets=targets)


def _is_new(database: Path) -> bool:
    with setting_errors("--emulator: cannot use", database, key="--emulator"):
        return status(database) is None


def state_beside(database: Path) -> Path:
    """Return the state folder of an emulator's database file: what is remembered of its tables is stored beside it."""
    return database.with_name(f"{database.name}.state")


def load_history_config(
    config: Path | None,
    database: Path | None,
    *,
    url: str | None = None,
    pool: str | None = None,
    connection: str | None = None,
) -> Config:
    """Load the configuration for a command that looks at what was recorded, and needs no account.

    If an emulator's database file is named, the state folder beside it counts.

    Raises:
        ConfigError: A bad file, key or value, or the name of the database file is empty.
    """
    loaded = load_config(config=config, url=url, pool=pool, connection=connection, wants_credentials=False)
    if database is None:
        return loaded
    if not database.name:
        raise ConfigError("--emulator: name the database file, such as try.duckdb", key="--emulator")
    return dataclasses.replace(loaded, state_dir=state_beside(database))


def load_tables_config(
    config: Path | None, url: str | None, pool: str | None, connection: str | None, database: Path | None
) -> Config:
    """Load the configuration for a command that looks at what is remembered of tables, and needs no account.

    If an emulator's database file is named, its tables count: those in the state folder beside it, without a team.

    Raises:
        ConfigError: A bad file, key or value, or the name of the database file is empty.
    """
    loaded = load_history_config(config, database, url=url, pool=pool, connection=connection)
    return loaded if database is None else dataclasses.replace(loaded, url=None, pool_id=EMULATOR_POOL)


def _adopt_tables(config: Config, *, is_new: bool) -> None:
    """Remember the tables of a database file as those of the team that its emulator serves now; forget them if the file is new.

    Raises:
        ConfigError: The state folder beside the file cannot be created.
        JournalError: Its journal cannot be used.
    """
    from pushengine.celonis.wire import parse_team_url

    with editing_tables(config) as tables:
        if is_new:
            tables.forget_loaded()
        tables.move_to(parse_team_url(config.require_url())[1])


@contextlib.contextmanager
def editing_tables(config: Config) -> Iterator[TableMemory]:
    """Change what is remembered of tables; all changes are one transaction of the journal, which is created if absent.

    Raises:
        ConfigError: The state folder cannot be created.
        JournalError: Its journal cannot be used.
    """
    with editing_journal(config) as journal:
        yield journal.tables


@contextlib.contextmanager
def editing_journal(config: Config) -> Iterator[JournalFile]:
    """Change the journal, which is created if absent, in one transaction.

    Raises:
        ConfigError: The state folder cannot be created.
        JournalError: Its journal cannot be used.
    """
    from pushengine.journal.store import JournalFile

    config.state.make()
    with contextlib.closing(JournalFile(config.state.journal)) as journal, journal.transaction():
        yield journal
