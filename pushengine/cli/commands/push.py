"""`push` and `plan`: load rows into a table, or show what that would do."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Self, cast

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.cli.commands.text_options import with_text_options
from pushengine.cli.hints import Hints
from pushengine.cli.tables.lookup import find_tables
from pushengine.errors import ConfigError, PushEngineError, SourceReadError
from pushengine.model import Drift, DuplicateKeys, MissingColumns, NewColumns, Receipt, TypeChanges

if TYPE_CHECKING:
    from pushengine.config.load import Config
    from pushengine.config.options import PushOptions
    from pushengine.engine import PushEngine
    from pushengine.events import EventSink
    from pushengine.model import QuotaStatus
    from pushengine.schema.known import KnownTable


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _PushArguments:
    """The arguments that `push` and `plan` share: source, target, columns, and what may differ from the table."""

    sources: list[str]
    table: str
    mode: options.ModeName
    key: list[str] | None
    file_format: options.FormatName | None
    text: Mapping[str, Any]
    column: list[str] | None
    columns: Path | None
    rename: list[str] | None
    select: list[str] | None
    exclude: list[str] | None
    drift: Drift | None
    new_columns: NewColumns | None
    missing_columns: MissingColumns | None
    types: TypeChanges | None
    duplicate_keys: DuplicateKeys | None
    order_by: str | None
    allow_empty: bool
    min_rows: int | None
    max_drop: float | None
    max_rejects: str | None
    rejects: Path | None

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Self:
        """Return those of the arguments of a command that belong here."""
        return cls(**{field.name: given[field.name] for field in dataclasses.fields(cls)})

    def source(self) -> Any:
        """Return the source to push: the arguments, or standard input for a single `-`.

        The engine spools standard input to the state folder until it is loaded.

        Raises:
            SourceReadError: Standard input is closed.
        """
        if self.sources != ["-"]:
            return self.sources
        stream: Any = sys.stdin  # None if the shell has closed it
        if stream is None:
            raise SourceReadError("it is closed", source="standard input", hint="connect it to a file or a pipe")
        return stream.buffer

    def target(self) -> dict[str, Any]:
        """Return the keyword arguments of `PushEngine.push` and `plan_source` that name the target and the format."""
        return {
            "table": self.table,
            "mode": self.mode.value,
            "keys": tuple(self.key or ()),
            "format": self.file_format.value if self.file_format else None,
            "duplicate_removal_column": self.order_by,
        }

    def options(self) -> PushOptions:
        """Return the options of the push.

        Raises:
            ConfigError: A `--column`, `--columns` or `--rename` value is bad.
        """
        from pushengine.config.columns_file import read_types

        overrides = {name: getattr(self, name) for name in _OVERRIDES if getattr(self, name) is not None}
        given: Any = {
            "column_types": options.parse_columns(self.column or ()),
            "default_types": {} if self.columns is None else read_types(self.columns),
            "rename": options.parse_renames(self.rename or ()),
            "select": tuple(self.select or ()),
            "exclude": tuple(self.exclude or ()),
            "allow_empty": self.allow_empty,
            **self.text,
            **overrides,
        }
        return cast("PushOptions", given)


_OVERRIDES = (
    "drift",
    "new_columns",
    "missing_columns",
    "types",
    "duplicate_keys",
    "min_rows",
    "max_drop",
    "max_rejects",
    "rejects",
)


@with_text_options
def push(
    sources: options.Sources,
    *,
    table: options.Table,
    mode: options.ModeOption = options.ModeName.REPLACE,
    key: options.Keys = None,
    connection: options.Connection = None,
    file_format: options.Format = None,
    text: Mapping[str, Any],
    column: options.Columns = None,
    columns: options.ColumnsFile = None,
    rename: options.Rename = None,
    select: options.Select = None,
    exclude: options.Exclude = None,
    drift: options.DriftOption = None,
    new_columns: options.NewColumnsOption = None,
    missing_columns: options.MissingColumnsOption = None,
    types: options.TypesOption = None,
    duplicate_keys: options.DuplicateKeysOption = None,
    order_by: options.OrderBy = None,
    allow_empty: options.AllowEmpty = False,
    min_rows: options.MinRows = None,
    max_drop: options.MaxDrop = None,
    max_rejects: options.MaxRejects = None,
    rejects: options.RejectsFolder = None,
    patience: options.Patience = None,
    load_id: options.LoadId = None,
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
    words = _PushArguments.of(locals())
    database = Path(emulator) if emulator else None
    if dry_run:
        load = functools.partial(session.load_tables_config, config, url, pool, connection, database)
        _plan(words, load, knows_tables=emulator is None or database is not None, as_json=as_json)
        return

    terminal.first_line.show(f"{table}  starting", is_quiet=quiet)
    last = runner.LastReceipt()
    hints = Hints(config=config, keeps_pushes=emulator is None)

    async def body(interrupts: runner.Interrupts) -> None:
        arguments = {**words.target(), **words.options(), **options.parse_patience(patience), "load_id": load_id}
        loaded = session.load_config(
            config=config,
            url=url,
            pool=pool,
            connection=connection,
            log_format=log_format,
            wants_credentials=emulator is None,
        )
        display, sinks = terminal.choose_sinks(loaded.log, is_json=as_json, is_quiet=quiet, hints=hints, title=table)
        async with contextlib.AsyncExitStack() as stack:
            shown = stack.enter_context(contextlib.ExitStack())
            shown.enter_context(display)  # before the imports of an engine, which take longest
            if emulator is not None:
                loaded = await session.embed_emulator(stack, loaded, database)
            engine = await stack.enter_async_context(_open_engine(loaded, [*sinks, last]))
            interrupts.drain, interrupts.note = engine.drain, display.note
            receipt = await engine.push(words.source(), **arguments)
            shown.close()
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
            receipt_json = exit_codes.failed_receipt(error, table=table, mode=mode.value, hints=hints)
            terminal.print_json(receipt_json)

    runner.run(body, on_error=on_error, hints=hints)


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


@with_text_options
def plan(
    sources: options.Sources,
    *,
    table: options.Table,
    mode: options.ModeOption = options.ModeName.REPLACE,
    key: options.Keys = None,
    connection: options.Connection = None,
    file_format: options.Format = None,
    text: Mapping[str, Any],
    column: options.Columns = None,
    columns: options.ColumnsFile = None,
    rename: options.Rename = None,
    select: options.Select = None,
    exclude: options.Exclude = None,
    drift: options.DriftOption = None,
    new_columns: options.NewColumnsOption = None,
    missing_columns: options.MissingColumnsOption = None,
    types: options.TypesOption = None,
    duplicate_keys: options.DuplicateKeysOption = None,
    order_by: options.OrderBy = None,
    allow_empty: options.AllowEmpty = False,
    min_rows: options.MinRows = None,
    max_drop: options.MaxDrop = None,
    max_rejects: options.MaxRejects = None,
    rejects: options.RejectsFolder = None,
    as_json: options.AsJson = False,
    config: options.ConfigPath = None,
    emulator: Annotated[
        Path | None, typer.Option("--emulator", metavar="DATABASE", help="Compare with the tables of this DuckDB file.")
    ] = None,
    url: options.Url = None,
    pool: options.Pool = None,
) -> None:
    """Show what a push would do; send nothing. Shows each column's type and why, first rows, differences; needs no account."""
    words = _PushArguments.of(locals())
    load = functools.partial(session.load_tables_config, config, url, pool, connection, emulator)
    _plan(words, load, knows_tables=True, as_json=as_json)


def _plan(words: _PushArguments, load: Callable[[], Config], *, knows_tables: bool, as_json: bool) -> None:
    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_plan
        from pushengine.config.options import LoadOptions
        from pushengine.push.plan import plan_source
        from pushengine.runtime.aio import announce_when_slow

        load_options, overrides = LoadOptions.split(words.options())
        loaded = load()
        known, notes = _known_table(loaded, words.table) if knows_tables else (None, ())
        with announce_when_slow(lambda: terminal.print_to_stderr(["reading a sample and determining the types"])):
            planned = await plan_source(
                words.source(),
                **words.target(),
                options=load_options,
                settings=loaded.engine.with_overrides(overrides),
                known=known,
                notes=notes,
            )
        if as_json:
            terminal.print_json(planned.to_dict())
        else:
            terminal.print_result(describe_plan(planned))

    runner.run(body, as_json=as_json)


def _known_table(loaded: Config, table: str) -> tuple[KnownTable | None, tuple[str, ...]]:
    """Return what is remembered of the table, and a note if that does not say what to compare with."""
    connection_id = loaded.connection_id or ""  # as for a push: without one, the table of the pool's global schema
    found = {key: one for key, one in find_tables(loaded, table).items() if key.connection_id == connection_id}
    if len(found) > 1:
        return None, (f"table {table} is remembered for {len(found)} pools: name one to compare with it",)
    if not found:
        return None, (f"nothing is remembered of table {table}: planned as for a new table",)
    (known,) = (remembered.known for remembered in found.values())
    if not known.doubt:
        return known, ()
    return known, (f"the outcome of push {known.doubt} into this table is unknown: what is remembered may be wrong",)
