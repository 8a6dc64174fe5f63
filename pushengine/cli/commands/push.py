"""`push` and `plan`: load rows into a table, or show what that would do."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.errors import ConfigError, PushEngineError
from pushengine.model import Mode, Receipt

if TYPE_CHECKING:
    from pushengine.config.load import Config
    from pushengine.engine import PushEngine
    from pushengine.events import EventSink
    from pushengine.model import QuotaStatus


@dataclasses.dataclass(frozen=True, slots=True)
class _PushArguments:
    """The arguments that `push` and `plan` share: source, target and types of the rows."""

    sources: list[str]
    table: str
    mode: Mode
    keys: tuple[str, ...]
    format: str | None
    columns: tuple[str, ...]

    @classmethod
    def of(
        cls,
        sources: list[str],
        *,
        table: str,
        mode: options.ModeName,
        keys: list[str] | None,
        file_format: options.FormatName | None,
        columns: list[str] | None,
    ) -> _PushArguments:
        return cls(
            sources=sources,
            table=table,
            mode=mode.value,
            keys=tuple(keys or ()),
            format=file_format.value if file_format else None,
            columns=tuple(columns or ()),
        )

    def source(self) -> Any:
        """Return the source to push: the arguments, or standard input for a single `-`.

        The engine spools standard input to the state folder until it is loaded.
        """
        return sys.stdin.buffer if self.sources == ["-"] else self.sources

    def arguments(self) -> dict[str, Any]:
        """Return the keyword arguments of `PushEngine.push` and `plan_source`.

        Raises:
            ConfigError: A `--column` value is bad.
        """
        return {
            "table": self.table,
            "mode": self.mode,
            "keys": self.keys,
            "format": self.format,
            "column_types": options.parse_columns(self.columns),
        }


def push(
    sources: options.Sources,
    *,
    table: options.Table,
    mode: options.ModeOption = options.ModeName.REPLACE,
    key: options.Keys = None,
    connection: options.Connection = None,
    file_format: options.Format = None,
    column: options.Columns = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    config: options.ConfigPath = None,
    emulator: options.EmulatorOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done; send nothing.")] = False,
    url: options.Url = None,
    pool: options.Pool = None,
    log_format: options.LogFormatOption = None,
) -> None:
    """Push files into one table and wait until they are loaded."""
    words = _PushArguments.of(sources, table=table, mode=mode, keys=key, file_format=file_format, columns=column)
    if dry_run:
        _plan(words, config=config, as_json=as_json)
        return

    last = runner.LastReceipt()

    async def body(interrupts: runner.Interrupts) -> None:
        arguments = words.arguments()
        loaded = session.load_config(
            config=config,
            url=url,
            pool=pool,
            connection=connection,
            log_format=log_format,
            wants_credentials=emulator is None,
        )
        display, sinks = terminal.choose_sinks(loaded, is_json=as_json, is_quiet=quiet)
        database = Path(emulator) if emulator else None
        async with contextlib.AsyncExitStack() as stack:
            if emulator is not None:
                loaded = await session.embed_emulator(stack, loaded, database)
            engine = await stack.enter_async_context(_open_engine(loaded, [*sinks, last]))
            interrupts.drain, interrupts.note = engine.drain, display.note
            with display:
                receipt = await engine.push(words.source(), **arguments)
            quota = await quota_if_known(engine)
            # Print before the engine closes: closing it marks the push as reported, and the same command then means a new push.
            if as_json:
                terminal.print_json(receipt.to_dict())
            elif not quiet:
                terminal.print_result(
                    _describe_result(receipt, quota, last, is_emulated=emulator is not None, database=database)
                )

    def on_error(error: BaseException) -> None:
        last.attach_to(error)
        if as_json:
            receipt_json = exit_codes.failed_receipt(error, table=table, mode=mode.value, keeps_pushes=emulator is None)
            terminal.print_json(receipt_json)

    runner.run(body, on_error=on_error, keeps_pushes=emulator is None)


def _open_engine(loaded: Config, sinks: list[EventSink]) -> PushEngine:
    """Return an engine for the configured team. If no team is configured, the error suggests `--emulator`.

    Raises:
        ConfigError: Team, pool or credentials are missing or bad.
    """
    try:
        return session.open_engine(loaded, sinks=sinks)
    except ConfigError as error:
        if error.key != "PUSHENGINE_URL":
            raise
        hint = f"{error.hint}; without a team, push into the embedded emulator: --emulator"
        raise error.replace(hint=hint) from error.__cause__


async def quota_if_known(engine: PushEngine) -> QuotaStatus | None:
    """Return the quota for a receipt, or None if it cannot be read: the push is done, and an error now must not fail the command."""
    with contextlib.suppress(PushEngineError):
        return await engine.quota()
    return None


def _describe_result(
    receipt: Receipt, quota: QuotaStatus | None, last: runner.LastReceipt, *, is_emulated: bool, database: Path | None
) -> list[str]:
    from pushengine.cli.describe import describe_receipt

    lines = describe_receipt(receipt, quota, last.resumed)
    if database is not None:
        lines.append(f"the table is in {database}: open it with DuckDB")
    elif is_emulated:
        lines.append("the emulator kept the table in memory; name a file to keep it: --emulator out.duckdb")
    return lines


def plan(
    sources: options.Sources,
    *,
    table: options.Table,
    mode: options.ModeOption = options.ModeName.REPLACE,
    key: options.Keys = None,
    file_format: options.Format = None,
    column: options.Columns = None,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
) -> None:
    """Show what a push would do; send nothing. Shows schema, string lengths, chunks and quota; needs no account."""
    _plan(
        _PushArguments.of(sources, table=table, mode=mode, keys=key, file_format=file_format, columns=column),
        config=config,
        as_json=as_json,
    )


def _plan(words: _PushArguments, *, config: Path | None, as_json: bool) -> None:
    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_plan
        from pushengine.push.plan import plan_source

        loaded = session.load_config(config=config, wants_credentials=False)
        planned = await plan_source(words.sources, **words.arguments(), settings=loaded.engine)
        if as_json:
            terminal.print_json(planned.to_dict())
        else:
            terminal.print_result(describe_plan(planned))

    runner.run(body, as_json=as_json)
