"""`load`: run the loads of the config file."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.cli.hints import Hints
from pushengine.cli.reporting.config_words import in_config_words
from pushengine.errors import PushEngineError
from pushengine.text import format_count

if TYPE_CHECKING:
    from pushengine.cli.live.loads import LoadsDisplay
    from pushengine.config.load import Config
    from pushengine.config.loads.resolved import Loads
    from pushengine.host import EngineHost
    from pushengine.journal.loads import LoadMemory
    from pushengine.loads.forecast import Forecast
    from pushengine.loads.items import Item
    from pushengine.loads.outcome import Failure, RunResult
    from pushengine.loads.selection import Selection
    from pushengine.model import QuotaStatus

_QUOTA_SECONDS = 5.0

_FEW = 10
"""So many loads without anything new are listed one by one."""
Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="Loads: a name in the config file, NAME.TABLE, or a pattern of these. Default: all."
    ),
]


def load(
    names: Names = None,
    *,
    tag: Annotated[str | None, typer.Option("--tag", metavar="TAG", help="Only loads with this tag.")] = None,
    continues: Annotated[
        bool, typer.Option("--continue", help="Finish the newest unfinished run: only what is left is done.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be loaded and why; send nothing, change nothing.")
    ] = False,
    parallel: Annotated[
        int | None,
        typer.Option("--parallel", min=1, max=256, metavar="N", help="How many loads read or upload at once."),
    ] = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    config: options.ConfigPath = None,
    emulator: options.EmulatorOption = None,
    log_format: options.LogFormatOption = None,
) -> None:
    """Run the loads of the config file: find what is new, and load each table on its own, in parallel and under one quota."""
    hints = Hints(config=config, keeps_pushes=emulator is None, database=Path(emulator) if emulator else None)
    terminal.first_line.show("loads  starting", is_quiet=quiet)

    async def body(interrupts: runner.Interrupts) -> None:
        from pushengine.loads.run import LoadRun
        from pushengine.loads.selection import Selection
        from pushengine.runtime.clock import SystemClock

        loaded, loads = session.load_loads(
            config=config, log_format=log_format, wants_credentials=emulator is None and not dry_run
        )
        clock = SystemClock()
        started = clock.monotonic()
        selection = Selection.of(loads, names or (), tag or "")
        if dry_run:
            database = Path(emulator) if emulator else None
            result = await _dry_run(
                loaded, loads, selection, database, hints, is_kept=emulator is None or database is not None
            )
            _print_result(result, hints, as_json=as_json, is_quiet=quiet)
            if result.exit_code:
                raise typer.Exit(result.exit_code)
            return
        display, sinks = terminal.choose_loads_sinks(loaded.log, is_json=as_json, is_quiet=quiet, hints=hints)
        async with contextlib.AsyncExitStack() as stack:
            shown = stack.enter_context(contextlib.ExitStack())
            shown.enter_context(display)
            if emulator is not None:
                loaded, loads = await session.embed_emulator_for_loads(
                    stack, loaded, loads, Path(emulator) if emulator else None
                )
            host = await stack.enter_async_context(session.open_host(loaded, sinks=sinks))
            interrupts.drain, interrupts.note = host.drain, display.note
            listener = _Listener(display, host, is_quiet=quiet)
            refreshing = asyncio.create_task(listener.refresh_quotas(), name="quotas")
            shown.callback(refreshing.cancel)
            run = LoadRun(
                host,
                loads,
                selection,
                listener=listener,
                judge=_judge(hints),
                parallel=parallel,
            )
            finished = await (run.continue_run() if continues else run.run())
            shown.close()
            _print_result(finished, hints, as_json=as_json, is_quiet=quiet, seconds=clock.monotonic() - started)
        if finished is not None and finished.exit_code:
            raise typer.Exit(finished.exit_code)

    runner.run(body, as_json=as_json, hints=hints)


async def _dry_run(
    loaded: Config, loads: Loads, selection: Selection, database: Path | None, hints: Hints, *, is_kept: bool
) -> RunResult:
    """Return what a run would do. Reads what is remembered, and writes nothing: there may be no state folder yet."""
    from pushengine.loads.run import plan_only
    from pushengine.quota.ledger import open_ledger, quota_of_hour, quota_status
    from pushengine.runtime.runtime import system_runtime
    from pushengine.state.file_errors import status
    from pushengine.state.folder import StateFolder

    folder = loaded.state if database is None else StateFolder(session.state_beside(database))
    runtime = system_runtime(loaded.engine.encoder_threads)
    with contextlib.ExitStack() as stack:
        stack.callback(runtime.close)
        memory = stack.enter_context(_memory_in(folder.find_journal() if is_kept else None))
        ledger = None
        if is_kept and status(folder.quota) is not None:
            ledger = open_ledger(loaded.engine, folder.quota)
            stack.callback(ledger.close)

        async def quota_of(team: str) -> QuotaStatus:
            now = runtime.clock.now()
            if ledger is None:
                return quota_of_hour(team, now, limit=loaded.engine.submits_per_hour)
            return quota_status(ledger, team, now)

        return await plan_only(loads, selection, runtime=runtime, judge=_judge(hints), memory=memory, quota_of=quota_of)


@contextlib.contextmanager
def _memory_in(journal: Path | None) -> Iterator[LoadMemory]:
    """Read what a journal remembers of loads; nothing if there is no journal."""
    import sqlite3

    from pushengine.journal.loads import LoadMemory
    from pushengine.journal.reader import JournalReader

    if journal is None:
        with contextlib.closing(sqlite3.connect(":memory:")) as nothing:
            yield LoadMemory(nothing)
        return
    with JournalReader(journal) as reader:
        yield reader.loads


class _Listener:
    """Shows a run on a display."""

    def __init__(self, display: LoadsDisplay, host: EngineHost, *, is_quiet: bool) -> None:
        self._display = display
        self._host = host
        self._is_quiet = is_quiet
        self._teams: set[str] = set()

    def planned(self, items: Sequence[Item], expected: Forecast | None) -> None:
        """Show the forecast, and what is over already."""
        self._display.expect(sum(not _is_quiet(item) for item in items))
        if expected is not None and not self._is_quiet:
            self._display.note(_forecast_line(expected))

    def quota(self, status: QuotaStatus) -> None:
        """Show the quota of a team."""
        self._teams.add(status.team)
        self._display.quota(status)

    async def refresh_quotas(self) -> None:
        """Show the quotas again and again, until this is cancelled: other processes of the team submit, too."""
        while True:
            await self._host.runtime.clock.sleep(_QUOTA_SECONDS)
            for team in sorted(self._teams):
                with contextlib.suppress(PushEngineError):  # whether the quota can be read must not decide about a run
                    self._display.quota(await self._host.quota(team))

    def started(self, item: Item) -> None:
        """Do nothing: the events of the push show it."""

    def ended(self, item: Item) -> None:
        """Show the end of an item, and what its push has to say; nothing if there was nothing new."""
        if _is_quiet(item):
            return
        self._display.finished(item.row)
        if item.receipt is not None and item.row.state in ("done", "rejects"):
            for text in (item.row.reason, *item.receipt.notes):
                if text:
                    self._display.note(f"{item.name}: {in_config_words(text)}")

    def note(self, text: str) -> None:
        """Show a line of text."""
        self._display.note(text)


def _is_quiet(item: Item) -> bool:
    """Whether an item has nothing new, which the totals at the end tell."""
    return item.row.state == "skipped" and not item.row.exit_code


def _forecast_line(expected: Forecast) -> str:
    from pushengine.cli.reporting.loads import describe_forecast

    return describe_forecast(expected)


def _judge(hints: Hints) -> Any:
    from pushengine.loads.outcome import Failure

    def judge(error: BaseException) -> Failure:
        described = exit_codes.describe_error(error, hints=hints)
        hint = f" (hint: {in_config_words(described['hint'])})" if described["hint"] else ""
        return Failure(exit_codes.exit_code_for(error), f"{in_config_words(described['message'])}{hint}")

    return judge


def _print_result(
    result: RunResult | None, hints: Hints, *, as_json: bool, is_quiet: bool, seconds: float | None = None
) -> None:
    from pushengine.cli.reporting.cells import terminal_width, wrapped
    from pushengine.cli.reporting.intent import describe_intent
    from pushengine.cli.reporting.loads import describe_loads

    if result is None:
        nothing = "there is no unfinished run of these loads: nothing to continue"
        if as_json:
            terminal.print_json({"run_id": None, "status": "DONE", "exit_code": 0, "loads": [], "note": nothing})
        elif not is_quiet:
            terminal.print_result([nothing])
        return
    if as_json:
        terminal.print_json(result.to_dict())
        return
    if result.is_dry:
        head = [_forecast_line(result.forecast)] if result.forecast is not None else []
        terminal.print_result([*head, *describe_intent(result.items), *result.notes])
        return
    shown = [item.row for item in result.items if not _is_quiet(item)]
    skipped = len(result.loads) - len(shown)
    if skipped <= _FEW:
        shown, skipped = list(result.loads), 0
    lines = describe_loads(shown, seconds=seconds, hints=hints, blocks=result.blocks) if shown else []
    changed = [
        f"{item.name}: {item.row.reason}" for item in result.items if item.row.state == "done" and item.row.reason
    ]
    lines += [line for text in changed for line in wrapped(text, terminal_width(), "    ", first="")]
    if skipped:
        lines.append(f"{format_count(skipped, 'load')} with nothing new; `{hints.load()} --dry-run` says why")
    if not is_quiet:
        terminal.print_result([*lines, f"run {result.run.run_id}"])
    elif result.exit_code:
        terminal.print_to_stderr([line for line in lines if line], level="error")
