"""The command line: arguments, exit codes, rendering. What it does, the library does.

Exit codes
    0    done
    1    a bug in pushengine
    2    usage or configuration; also a quota ledger or journal that this machine does not let us use
    3    a push failed: the source, the platform's refusal, or the job
    4    authentication or permission
    6    nobody can say whether a submitted job ran; a person decides
    75   temporary: network, quota, server, deadline, a ledger or journal that others keep locked; run the same command again
    130  interrupted

Results go to stdout, everything else to stderr. With `--json` stdout holds exactly one JSON object, also when the command fails: then
it has `status` and `error` (`type`, `message`, `hint`). Only usage mistakes that were found before the command began look at the
arguments themselves for `--json`.

Nothing heavy is imported before a command needs it: `pushengine --help` stays fast.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TextIO, cast, get_args

import typer

from pushengine import errors
from pushengine.model import ColumnType, Mode, Receipt

if TYPE_CHECKING:
    from types import FrameType

    from pushengine.api import PushEngine
    from pushengine.config import Config
    from pushengine.display import Display
    from pushengine.emulator import Emulator, EmulatorCredentials, EmulatorSettings
    from pushengine.events import Event, EventSink
    from pushengine.model import Job, QuotaStatus

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_FAILED = 3
EXIT_AUTH = 4
EXIT_OUTCOME_UNKNOWN = 6
EXIT_TEMPORARY = 75
EXIT_INTERRUPTED = 130

_EMULATOR_POOL = "00000000-0000-4000-8000-000000000001"
_DATABASE_SUFFIXES = (".duckdb", ".ddb", ".db")
_REPORT_TO = "please report it with this line and what you ran"

_TEMPORARY = (
    errors.TransportError,
    errors.RateLimitedError,
    errors.ServerError,
    errors.RetriesExhaustedError,
    errors.JobDeadlineError,
    errors.JournalLockedError,
)
_FORBIDDEN = (errors.AuthenticationError, errors.PermissionDeniedError)


# ------------------------------------------------------------------------------------------------------------------ errors


def real_cause(error: BaseException) -> BaseException:
    """The error that explains the others: what is inside groups, with cancellations and endings last."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min((real_cause(inner) for inner in error.exceptions), key=_rank)


def _rank(error: BaseException) -> int:
    if isinstance(error, asyncio.CancelledError):
        return 4
    if isinstance(error, errors.EngineClosedError):
        return 3
    if _chain_holds(error, _FORBIDDEN):
        return 0
    return 2 if isinstance(error, errors.PushEngineError) else 1


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _chain_holds(error: BaseException, kinds: tuple[type[BaseException], ...]) -> bool:
    return any(isinstance(link, kinds) for link in _chain(error))


def exit_code_for(error: BaseException) -> int:  # noqa: PLR0911 - one flat table
    """The exit code that tells a script what to do about an error; the table is in this module's docstring."""
    cause = real_cause(error)
    if isinstance(cause, KeyboardInterrupt | asyncio.CancelledError | errors.EngineClosedError):
        return EXIT_INTERRUPTED
    if _chain_holds(cause, _FORBIDDEN):
        return EXIT_AUTH
    if isinstance(cause, errors.SubmitOutcomeUnknownError):
        return EXIT_OUTCOME_UNKNOWN
    if isinstance(cause, errors.ConfigError | errors.JournalError) and not isinstance(cause, errors.JournalLockedError):
        return EXIT_USAGE
    if isinstance(cause, errors.LedgerError):
        return EXIT_TEMPORARY if "locked" in str(cause.__cause__) else EXIT_USAGE
    if isinstance(cause, _TEMPORARY):
        return EXIT_TEMPORARY
    return EXIT_FAILED if isinstance(cause, errors.PushEngineError) else EXIT_BUG


def describe_error(error: BaseException) -> dict[str, str]:
    """Type, message and hint of an error, without secrets."""
    from pushengine.telemetry import mask

    cause = real_cause(error)
    if isinstance(cause, KeyboardInterrupt | asyncio.CancelledError):
        return {"type": "Interrupted", "message": "aborted", "hint": _hint_after_interrupt(cause)}
    if isinstance(cause, errors.EngineClosedError):
        return {"type": type(cause).__name__, "message": mask(cause.message), "hint": _hint_after_interrupt(cause)}
    if not isinstance(cause, errors.PushEngineError):
        text = " ".join(str(cause).split())
        message = mask(f"{type(cause).__name__}: {text}" if text else type(cause).__name__)
        return {"type": type(cause).__name__, "message": message, "hint": _REPORT_TO}
    where = (cause.source, cause.position or "") if isinstance(cause, errors.SourceError) else ()
    prefix = "".join(f"{part}: " for part in (", ".join(part for part in where if part),) if part)
    hints = (link.hint for link in _chain(cause) if isinstance(link, errors.PushEngineError))
    hint = next((hint for hint in hints if hint), "")
    return {"type": type(cause).__name__, "message": mask(prefix + cause.message), "hint": mask(hint)}


def _hint_after_interrupt(cause: BaseException) -> str:
    """A submitted job goes on: the same command again would append its rows twice."""
    receipt = getattr(cause, "receipt", None)
    if isinstance(receipt, Receipt) and receipt.submits:
        return f"the job goes on without us; before pushing again look at it: pushengine jobs show {receipt.job_id}"
    return "run the same command again"


def error_lines(error: BaseException) -> list[str]:
    """An error for people: what broke, what became of the table, and the hint on its own line."""
    told = describe_error(error)
    code = exit_code_for(error)
    if code == EXIT_BUG:
        return [f"bug: {told['message']}", f"hint: {_REPORT_TO}; PUSHENGINE_DEBUG=1 shows the traceback"]
    if code == EXIT_INTERRUPTED:
        lines = [told["message"] if told["message"] == "interrupted" else f"interrupted: {told['message']}"]
    else:
        lines = [f"error: {told['message']}"]
    receipt = getattr(real_cause(error), "receipt", None)
    if receipt is not None:
        lines += [f"  the platform: {line}" for line in receipt.job_logs if line not in told["message"]]
        lines.append(f"state: {_state_of_table(receipt)}")
    return lines + ([f"hint: {told['hint']}"] if told["hint"] else [])


def _state_of_table(receipt: Receipt) -> str:
    if not receipt.submits:
        return "nothing was submitted, the table is as it was"
    return f"job {receipt.job_id} of push {receipt.push_id} was submitted"


def failed_receipt(error: BaseException, *, table: str | None = None, mode: str | None = None) -> dict[str, Any]:
    """What `--json` prints for a push that failed: the receipt, as far as there is one, and the error."""
    receipt = getattr(real_cause(error), "receipt", None)
    if isinstance(receipt, Receipt):
        told = receipt.to_dict()
    else:
        nothing = Receipt(
            push_id="",
            job_id=None,
            table=table or "",
            mode=cast("Mode", mode),
            status="INTERRUPTED" if exit_code_for(error) == EXIT_INTERRUPTED else "ERROR",
            rows=0,
            chunks=0,
            payload_bytes=0,
            source_bytes=0,
            elapsed_seconds=0.0,
            retries=0,
            submits=0,
            restarts=0,
            resumed=False,
            verified=None,
            job_logs=(),
        )
        told = {**nothing.to_dict(), "push_id": None, "table": table}
    return {**told, "error": describe_error(error)}


# ------------------------------------------------------------------------------------------------------------------ output


def _say(lines: Sequence[str]) -> None:
    """Write the result for people."""
    with _outliving_its_reader():
        _write(lines, sys.stdout)


def _say_json(value: Mapping[str, Any]) -> None:
    """Write the result for machines: one line in a pipe."""
    with _outliving_its_reader():
        sys.stdout.write(f"{json.dumps(value, indent=2 if sys.stdout.isatty() else None)}\n")
        sys.stdout.flush()


@contextlib.contextmanager
def _outliving_its_reader() -> Iterator[None]:
    """A reader that went away does not change what was done, nor the exit code that tells it."""
    try:
        yield
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complain(lines: Sequence[str]) -> None:
    with contextlib.suppress(OSError):
        _write(lines, sys.stderr)


def _write(lines: Sequence[str], stream: TextIO) -> None:
    if stream.isatty():
        from pushengine.display import print_lines

        print_lines(lines, stream)
    else:
        stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()


def _is_debugging() -> bool:
    return _debug.is_on or os.environ.get("PUSHENGINE_DEBUG", "") not in ("", "0")


@dataclasses.dataclass(slots=True)
class _Debug:
    is_on: bool = False


_debug = _Debug()


class Interrupts:
    """SIGINT and SIGTERM: the first asks the work to come to an end, the next aborts it.

    Attributes:
        drain: What the first signal calls, set once there is something to drain; until then the first aborts.
        note: Takes the line that tells the user.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._is_draining = False
        self.drain: Callable[[], None] | None = None
        self.note: Callable[[str], None] = lambda _text: None

    def install(self) -> None:
        """Take over the two signals, for as long as the loop runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self.interrupt)
            except NotImplementedError:  # Windows: its loops have no signal handlers
                signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(self.interrupt))

    def interrupt(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """A signal came."""
        if self.drain is None or self._is_draining:
            self._task.cancel()
            return
        self._is_draining = True
        self.drain()
        self.note("finishing chunks in flight; Ctrl-C again to abort")


class _LastReceipt:
    """An event sink that keeps the receipt of a push that failed: an aborted one raises no error that could carry it."""

    def __init__(self) -> None:
        self._receipt: Receipt | None = None

    def emit(self, event: Event) -> None:
        """Take one event."""
        self._receipt = getattr(event, "receipt", self._receipt)

    def attach_to(self, error: BaseException) -> None:
        """Give the error the receipt, if it has none."""
        cause: Any = real_cause(error)
        if getattr(cause, "receipt", None) is None:
            cause.receipt = self._receipt


Body = Callable[[Interrupts], Awaitable[None]]


def _run(body: Body, *, on_error: Callable[[BaseException], None] | None = None) -> None:
    """Run a command; turn its failure into lines on stderr and an exit code.

    Raises:
        typer.Exit: The command failed.
    """

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that asyncio.run() runs is in a task
        interrupts = Interrupts(task)
        interrupts.install()
        await body(interrupts)

    try:
        asyncio.run(guarded())
    except typer.Exit:
        raise
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        _fail(error, on_error)


def _fail(error: BaseException, on_error: Callable[[BaseException], None] | None) -> NoReturn:
    if _is_debugging():
        import traceback

        from pushengine.telemetry import mask

        _complain([mask("".join(traceback.format_exception(error)).rstrip())])
    if on_error is not None:
        on_error(error)
    _complain(error_lines(error))
    raise typer.Exit(exit_code_for(error)) from None


def _json_error(error: BaseException) -> None:
    _say_json({"status": "ERROR", "error": describe_error(error)})


# ----------------------------------------------------------------------------------------------------------------- options


class ModeName(enum.StrEnum):
    """What the rows do to the table."""

    REPLACE = "replace"
    APPEND = "append"
    UPSERT = "upsert"
    DELETE = "delete"


class FormatName(enum.StrEnum):
    """How source files are written."""

    CSV = "csv"
    PARQUET = "parquet"
    JSONL = "jsonl"
    ARROW = "arrow"


class LogFormatName(enum.StrEnum):
    """How stderr speaks."""

    CONSOLE = "console"
    JSON = "json"


Sources = Annotated[
    list[str], typer.Argument(metavar="SOURCE...", help="Files, globs or folders; all become one table.")
]
Table = Annotated[str, typer.Option("--table", metavar="NAME", help="Target table.")]
ModeOption = Annotated[ModeName, typer.Option("--mode", help="upsert and delete need --key.")]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="COL", help="Primary key column; repeatable.")]
Format = Annotated[
    FormatName | None, typer.Option("--format", help="Format of the files; by their names if not given.")
]
Columns = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="NAME=TYPE", help="Type of a column, as in PRICE=FLOAT; repeatable."),
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="Team URL  [PUSHENGINE_URL]")]
Pool = Annotated[str | None, typer.Option("--pool", metavar="ID", help="Data pool  [PUSHENGINE_POOL_ID]")]
Connection = Annotated[
    str | None, typer.Option("--connection", metavar="ID", help="Data connection  [PUSHENGINE_CONNECTION_ID]")
]
ConfigPath = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="Config file  [PUSHENGINE_CONFIG]")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing but errors.")]
LogFormatOption = Annotated[
    LogFormatName | None, typer.Option("--log-format", help="Progress, or a JSON line per event  [PUSHENGINE_LOG]")
]
EmulatorOption = Annotated[
    str | None,
    typer.Option(
        "--emulator", metavar="[DATABASE]", help="Push into an embedded emulator; a .duckdb file keeps its tables."
    ),
]

_ENDING = "Exit codes: 0 done, 2 usage or config, 3 failed, 4 authentication, 6 outcome unknown, 75 try again, 130 interrupted."
app = typer.Typer(
    name="pushengine",
    help="Tables into Celonis data pools: fast, in bounded memory, inside the submit quota.",
    epilog=_ENDING,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
jobs_app = typer.Typer(
    help="The push jobs of the pool: list, show, delete.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)
app.add_typer(jobs_app, name="jobs")


def join_optional_value(arguments: Sequence[str]) -> list[str]:
    """Make the optional value of `--emulator` plain: `--emulator x.duckdb` becomes `--emulator=x.duckdb`, else `--emulator=`.

    The next word is the database if it ends in .duckdb, .ddb or .db; anything else is a source or an option. `--emulator=anything` is
    taken as it is.
    """
    joined: list[str] = []
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word == "--":
            return [*joined, word, *words]
        if word == "--emulator":
            is_database = bool(words) and words[0].lower().endswith(_DATABASE_SUFFIXES) and not words[0].startswith("-")
            word += f"={words.pop(0) if is_database else ''}"
        joined.append(word)
    return joined


def parse_columns(columns: Sequence[str]) -> dict[str, ColumnType]:
    """`NAME=TYPE` words as a mapping.

    Raises:
        ConfigError: No `=`, or no such type.
    """
    types = {}
    for word in columns:
        name, separator, kind = word.rpartition("=")
        if not separator or not name or kind.upper() not in get_args(ColumnType):
            raise errors.ConfigError(
                f"--column {word}: not NAME=TYPE",
                key="--column",
                hint=f"TYPE is one of {', '.join(get_args(ColumnType))}",
            )
        types[name] = cast("ColumnType", kind.upper())
    return types


def _load_config(
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


def _open_engine(config: Config, *, sinks: Sequence[EventSink] = ()) -> PushEngine:
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


def _choose_display(*, is_json: bool, is_quiet: bool) -> Display:
    from rich.console import Console

    from pushengine.display import LiveDisplay, PlainDisplay, QuietDisplay

    console = Console(stderr=True)
    if is_quiet:
        return QuietDisplay()
    if is_json or not console.is_terminal or console.is_dumb_terminal:
        return PlainDisplay(sys.stderr)
    return LiveDisplay(console)


def _choose_sinks(config: Config, *, is_json: bool, is_quiet: bool) -> tuple[Display, list[EventSink]]:
    """Progress for people, or log lines for machines; both where a log level was asked for."""
    from pushengine.display import QuietDisplay
    from pushengine.telemetry import LogSink, configure_logging

    log = config.log
    level = "error" if is_quiet else log.level or ("debug" if log.format == "json" else "warning")
    configure_logging(log.format, level)
    if log.format == "json":
        return QuietDisplay(), [LogSink()]
    display = _choose_display(is_json=is_json, is_quiet=is_quiet)
    return display, [display, *([LogSink()] if log.level and not is_quiet else [])]


@contextlib.asynccontextmanager
async def _open_emulator(
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
        raise errors.ConfigError(
            f"the emulator cannot listen on port {port}: {error.strerror}", key="--port"
        ) from error
    except duckdb.Error as error:
        reason = str(error).partition("\n")[0]
        raise errors.ConfigError(f"the emulator cannot use {database}: {reason}", key="--emulator") from error
    try:
        yield emulator
    finally:
        await emulator.aclose()


# ---------------------------------------------------------------------------------------------------------------- commands


def _show_version(is_asked: bool) -> None:
    if is_asked:
        import pushengine

        _say([f"pushengine {pushengine.__version__}"])
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks  [PUSHENGINE_DEBUG=1]")] = False,
) -> None:
    del version
    _debug.is_on = debug


@app.command()
def demo(
    cases: Annotated[int, typer.Option("--cases", min=1, max=2_000_000, help="Cases, about 7 rows each.")] = 20_000,
    seed: Annotated[int, typer.Option("--seed", help="Another seed, another log.")] = 1,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Keep the table in a DuckDB file.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Push a generated event log into the embedded emulator. Then look at the table; no account, no network."""

    async def body(_interrupts: Interrupts) -> None:
        from pushengine import demo as demo_run

        display = _choose_display(is_json=as_json, is_quiet=False)
        with display:
            display.note(f"generating a purchase-to-pay log of {cases:,} cases, seed {seed}")
            result = await demo_run.run(cases=cases, seed=seed, database=database, sinks=[display])
        if as_json:
            _say_json(result.to_dict())
        else:
            bar = "\u2588" if sys.stdout.isatty() and "utf" in sys.stdout.encoding.lower() else "#"
            _say(demo_run.describe_demo(result, bar=bar))

    _run(
        body,
        on_error=(lambda error: _say_json(failed_receipt(error, table="P2P_ACTIVITIES", mode="replace")))
        if as_json
        else None,
    )


@dataclasses.dataclass(frozen=True, slots=True)
class _PushWords:
    """What the command line says about the rows, the same for `push` and `plan`."""

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
        mode: ModeName,
        keys: list[str] | None,
        file_format: FormatName | None,
        columns: list[str] | None,
    ) -> _PushWords:
        return cls(
            sources=sources,
            table=table,
            mode=mode.value,
            keys=tuple(keys or ()),
            format=file_format.value if file_format else None,
            columns=tuple(columns or ()),
        )

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of `PushEngine.push` and `plan_source`."""
        return {
            "table": self.table,
            "mode": self.mode,
            "keys": self.keys,
            "format": self.format,
            "column_types": parse_columns(self.columns),
        }


@app.command()
def push(
    sources: Sources,
    *,
    table: Table,
    mode: ModeOption = ModeName.REPLACE,
    key: Keys = None,
    connection: Connection = None,
    file_format: Format = None,
    column: Columns = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
    config: ConfigPath = None,
    emulator: EmulatorOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would do; send nothing.")] = False,
    url: Url = None,
    pool: Pool = None,
    log_format: LogFormatOption = None,
) -> None:
    """Push files into one table and wait until they are loaded."""
    words = _PushWords.of(sources, table=table, mode=mode, keys=key, file_format=file_format, columns=column)
    if dry_run:
        _plan(words, config=config, as_json=as_json)
        return

    last = _LastReceipt()

    async def body(interrupts: Interrupts) -> None:
        loaded = _load_config(
            config=config,
            url=url,
            pool=pool,
            connection=connection,
            log_format=log_format,
            wants_credentials=emulator is None,
        )
        display, sinks = _choose_sinks(loaded, is_json=as_json, is_quiet=quiet)
        database = Path(emulator) if emulator else None
        async with contextlib.AsyncExitStack() as stack:
            if emulator is not None:
                loaded = await _embed_emulator(stack, loaded, database)
            engine = await stack.enter_async_context(_open_engine(loaded, sinks=[*sinks, last]))
            interrupts.drain, interrupts.note = engine.drain, display.note
            with display:
                receipt = await engine.push(words.sources, **words.arguments())
            quota = await _quota_if_known(engine)
        if as_json:
            _say_json(receipt.to_dict())
        elif not quiet:
            _say(_told_receipt(receipt, quota, is_emulated=emulator is not None, database=database))

    def on_error(error: BaseException) -> None:
        last.attach_to(error)
        if as_json:
            _say_json(failed_receipt(error, table=table, mode=mode.value))

    _run(body, on_error=on_error)


async def _embed_emulator(stack: contextlib.AsyncExitStack, config: Config, database: Path | None) -> Config:
    """Start an emulator that ends with the stack, and point the configuration at it; its quota is nobody's, so it has its own ledger."""
    import tempfile

    from pushengine.auth import UserApiKey

    emulator = await stack.enter_async_context(_open_emulator(database))
    state = stack.enter_context(tempfile.TemporaryDirectory(prefix="pushengine-"))
    return dataclasses.replace(
        config,
        url=emulator.url,
        pool_id=_EMULATOR_POOL,
        credentials=UserApiKey("emulator-key"),
        state_dir=Path(state),
    )


async def _quota_if_known(engine: PushEngine) -> QuotaStatus | None:
    """For the receipt of a push that is done: what fails now must not make it a failure."""
    with contextlib.suppress(errors.PushEngineError):
        return await engine.quota()
    return None


def _told_receipt(
    receipt: Receipt, quota: QuotaStatus | None, *, is_emulated: bool, database: Path | None
) -> list[str]:
    from pushengine.display import describe_receipt

    lines = describe_receipt(receipt, quota)
    if database is not None:
        lines.append(f"the table is in {database}: open it with DuckDB")
    elif is_emulated:
        lines.append("the emulator kept the table in memory; name a file to keep it: --emulator out.duckdb")
    return lines


@app.command()
def plan(
    sources: Sources,
    *,
    table: Table,
    mode: ModeOption = ModeName.REPLACE,
    key: Keys = None,
    file_format: Format = None,
    column: Columns = None,
    as_json: AsJson = False,
    config: ConfigPath = None,
) -> None:
    """Say what a push would do; send nothing. Schema, string lengths, chunks, quota; needs no account."""
    _plan(
        _PushWords.of(sources, table=table, mode=mode, keys=key, file_format=file_format, columns=column),
        config=config,
        as_json=as_json,
    )


def _plan(words: _PushWords, *, config: Path | None, as_json: bool) -> None:
    async def body(_interrupts: Interrupts) -> None:
        from pushengine.api import plan_source
        from pushengine.display import describe_plan

        loaded = _load_config(config=config, wants_credentials=False)
        planned = await plan_source(words.sources, **words.arguments(), settings=loaded.engine)
        if as_json:
            _say_json(planned.to_dict())
        else:
            _say(describe_plan(planned))

    _run(body, on_error=_json_error if as_json else None)


@app.command()
def check(url: Url = None, pool: Pool = None, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Check URL, TLS, credentials, scope and permission. One line each, with the remedy."""

    async def body(_interrupts: Interrupts) -> None:
        from pushengine.display import describe_checks

        async with _open_engine(_load_config(config=config, url=url, pool=pool)) as engine:
            results = await engine.check()
        failures = [result for result in results if result.is_ok is False]
        if as_json:
            _say_json({"is_ok": not failures, "checks": [result.to_dict() for result in results]})
        else:
            _say(describe_checks(results))
        if failures:
            error = failures[0].error
            raise typer.Exit(exit_code_for(error) if error is not None else EXIT_FAILED)

    _run(body, on_error=_json_error if as_json else None)


@app.command()
def quota(url: Url = None, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """Show what is left of this hour's submits. As far as this host knows; asks nobody."""

    async def body(_interrupts: Interrupts) -> None:
        from pushengine.api import open_ledger, quota_status
        from pushengine.clock import SystemClock
        from pushengine.display import describe_quota
        from pushengine.wire import parse_team_url

        loaded = _load_config(config=config, url=url, wants_credentials=False)
        _, team = parse_team_url(loaded.require_url())
        with contextlib.closing(open_ledger(loaded.engine, loaded.state_dir)) as ledger:
            status = quota_status(ledger, team, SystemClock().now())
        if as_json:
            _say_json(status.to_dict())
        else:
            _say(describe_quota(status))

    _run(body, on_error=_json_error if as_json else None)


def _job_to_dict(job: Job) -> dict[str, Any]:
    changed = job.last_modified.isoformat() if job.last_modified else None
    return {**dataclasses.asdict(job), "status": job.status.value, "last_modified": changed}


@jobs_app.command("list")
def jobs_list(url: Url = None, pool: Pool = None, config: ConfigPath = None, as_json: AsJson = False) -> None:
    """List the push jobs of the pool, whoever made them."""

    async def body(_interrupts: Interrupts) -> None:
        from pushengine.display import describe_jobs

        async with _open_engine(_load_config(config=config, url=url, pool=pool)) as engine:
            jobs = await engine.list_jobs()
        if as_json:
            _say_json({"jobs": [_job_to_dict(job) for job in jobs]})
        else:
            _say(describe_jobs(jobs))

    _run(body, on_error=_json_error if as_json else None)


JobIdArgument = Annotated[str, typer.Argument(metavar="JOB_ID")]


@jobs_app.command("show")
def jobs_show(
    job_id: JobIdArgument, url: Url = None, pool: Pool = None, config: ConfigPath = None, as_json: AsJson = False
) -> None:
    """Show one push job with its chunks and logs."""

    async def body(_interrupts: Interrupts) -> None:
        from pushengine.display import describe_job

        async with _open_engine(_load_config(config=config, url=url, pool=pool)) as engine:
            job = await engine.get_job(job_id)
            chunks = await engine.list_chunks(job_id)
        if as_json:
            _say_json({**_job_to_dict(job), "chunks": [dataclasses.asdict(chunk) for chunk in chunks]})
        else:
            _say(describe_job(job, chunks))

    _run(body, on_error=_json_error if as_json else None)


@jobs_app.command("delete")
def jobs_delete(
    job_ids: Annotated[list[str], typer.Argument(metavar="JOB_ID...")],
    url: Url = None,
    pool: Pool = None,
    config: ConfigPath = None,
    as_json: AsJson = False,
) -> None:
    """Delete push jobs and their chunks; what was loaded into tables stays there."""

    async def body(_interrupts: Interrupts) -> None:
        async with _open_engine(_load_config(config=config, url=url, pool=pool)) as engine:
            for job_id in job_ids:
                await engine.delete_job(job_id)
        if as_json:
            _say_json({"deleted": job_ids})
        else:
            _say([f"job {job_id} deleted" for job_id in job_ids])

    _run(body, on_error=_json_error if as_json else None)


@app.command()
def emulator(
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, metavar="N", help="Port on 127.0.0.1; 0 takes a free one.")
    ] = 0,
    database: Annotated[
        Path | None, typer.Option("--database", metavar="FILE", help="Keep the tables in a DuckDB file.")
    ] = None,
    strict_auth: Annotated[
        bool, typer.Option("--strict-auth", help="Accept only the credentials that environment or config file hold.")
    ] = False,
    config: ConfigPath = None,
) -> None:
    """Run the Data Push API on 127.0.0.1. Its tables are in DuckDB; it runs until it is interrupted."""

    async def body(interrupts: Interrupts) -> None:
        from pushengine.emulator import EmulatorSettings

        settings = EmulatorSettings(credentials=_emulator_credentials(config) if strict_auth else None)
        stop = asyncio.Event()
        interrupts.drain = stop.set
        async with _open_emulator(database, port=port, settings=settings) as running:
            _say(_emulator_lines(running.url, database, is_strict=strict_auth))
            await stop.wait()

    _run(body)


def _emulator_credentials(config: Path | None) -> EmulatorCredentials:
    from pushengine.auth import OAuthClient, UserApiKey
    from pushengine.emulator import EmulatorCredentials

    who = _load_config(config=config).require_credentials()
    if isinstance(who, OAuthClient):
        return EmulatorCredentials(client_id=who.client_id, client_secret=who.client_secret.reveal())
    if isinstance(who, UserApiKey):
        return EmulatorCredentials(api_key=who.key.reveal())
    return EmulatorCredentials(app_key=who.key.reveal())


def _emulator_lines(url: str, database: Path | None, *, is_strict: bool) -> list[str]:
    lines = [
        f"Data Push API emulator at {url}, tables in {database or 'memory'}; Ctrl-C stops it.",
        "Any pool id is accepted, and "
        + ("the credentials of your environment only:" if is_strict else "any credentials:"),
        "",
        f"export PUSHENGINE_URL={url}",
        f"export PUSHENGINE_POOL_ID={_EMULATOR_POOL}",
    ]
    return lines if is_strict else [*lines, "export PUSHENGINE_API_KEY=anything"]


# -------------------------------------------------------------------------------------------------------------------- main


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = join_optional_value(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = typer.main.get_command(app)(args=words, prog_name="pushengine", standalone_mode=False)
    except Exception as error:
        if not hasattr(
            error, "format_message"
        ):  # not a usage error of typer's: both its own click and the real one have this
            raise
        cast("Any", error).show()
        if "--json" in words:
            _say_json(
                {
                    "status": "ERROR",
                    "error": {"type": "UsageError", "message": cast("Any", error).format_message(), "hint": ""},
                }
            )
        return EXIT_USAGE
    return code if isinstance(code, int) else 0
