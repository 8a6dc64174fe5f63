"""`resume`, `history` and `show`: the pushes recorded in the journal."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.cli.commands.push import quota_if_known
from pushengine.cli.hints import Hints
from pushengine.errors import ConfigError, PushEngineError
from pushengine.text import format_count

if TYPE_CHECKING:
    from pushengine.config.load import Config
    from pushengine.engine import PushEngine
    from pushengine.journal.reader import JournalReader
    from pushengine.model import Receipt

_BY_SEVERITY = (
    0,
    exit_codes.EXIT_TEMPORARY,
    exit_codes.EXIT_USAGE,
    exit_codes.EXIT_FAILED,
    exit_codes.EXIT_AUTH,
    exit_codes.EXIT_OUTCOME_UNKNOWN,
    exit_codes.EXIT_BUG,
    exit_codes.EXIT_INTERRUPTED,
)
_STOPS_ALL = (exit_codes.EXIT_AUTH, exit_codes.EXIT_INTERRUPTED)


def resume(
    push_id: Annotated[
        str | None,
        typer.Argument(
            metavar="[PUSH_ID]", help="Id of the only push to resume, not of a job; a unique prefix is enough."
        ),
    ] = None,
    *,
    patience: options.Patience = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
    config: options.ConfigPath = None,
    url: options.Url = None,
    pool: options.Pool = None,
    log_format: options.LogFormatOption = None,
) -> None:
    """Finish what a killed or interrupted process left. Resumes all unfinished pushes into the pool, oldest first, or only one.

    Settings that determine rows or bytes stay as they were; connection, limits and logs are those of today.
    """
    terminal.first_line.show("resume  starting", is_quiet=quiet)
    hints = Hints(config=config)
    work = _Resumption(as_json=as_json, quiet=quiet, hints=hints)

    async def body(interrupts: runner.Interrupts) -> None:
        loaded = session.load_config(config=config, url=url, pool=pool, log_format=log_format)
        engine_settings = loaded.engine.with_overrides(options.parse_patience(patience))
        loaded = dataclasses.replace(loaded, engine=engine_settings)
        full_id = _full_id(loaded, push_id) if push_id is not None else None
        display, sinks = terminal.choose_sinks(loaded.log, is_json=as_json, is_quiet=quiet, hints=hints)
        async with contextlib.AsyncExitStack() as stack:
            shown = stack.enter_context(contextlib.ExitStack())
            shown.enter_context(display)  # before the imports of an engine, which take longest
            engine = await stack.enter_async_context(session.open_engine(loaded, sinks=[*sinks, work.last]))
            interrupts.drain, interrupts.note = engine.drain, display.note
            await work.run(engine, full_id)
            shown.close()
            work.print_results(await quota_if_known(engine) if work.receipts else None, is_one=full_id is not None)
        if work.code:
            raise typer.Exit(work.code)

    def on_error(error: BaseException) -> None:
        work.last.attach_to(error)
        if as_json:
            failed = exit_codes.failed_receipt(error, hints=hints)
            terminal.print_json(failed if push_id is not None else [*work.json_results, failed])

    runner.run(body, on_error=on_error, hints=hints)


def _full_id(loaded: Config, prefix: str) -> str:
    with _open_reader(_require_journal(loaded, prefix)) as reader:
        return reader.find_push(prefix).push_id


class _Resumption:
    """Resumes pushes one after another, and collects their results.

    Attributes:
        last: An event sink that must be among the sinks of the engine.
        receipts: Receipts of the pushes that are DONE, each with what an earlier process had already done.
        json_results: What `--json` prints: one object per push.
        code: The most severe exit code so far.
    """

    def __init__(self, *, as_json: bool, quiet: bool, hints: Hints) -> None:
        self._as_json = as_json
        self._quiet = quiet
        self._hints = hints
        self._skipped = 0
        self.last = runner.LastReceipt()
        self.receipts: list[tuple[Receipt, Any]] = []
        self.json_results: list[dict[str, Any]] = []
        self.code = 0

    async def run(self, engine: PushEngine, push_id: str | None) -> None:
        """Resume one push, or every open push if `push_id` is None.

        Failures while resuming every push are printed and collected, not raised. A refusal of the credentials or an interruption ends the
        run early, because it would stop the other pushes too.

        Raises:
            PushEngineError: The push `push_id` failed.
            ExceptionGroup: The push `push_id` failed for several reasons.
        """
        if push_id is not None:
            self._done(await engine.resume(push_id))
            return
        for row in await engine.open_pushes():
            code = 0
            try:
                self._done(await engine.resume(row.push_id))
            except PushEngineError as error:
                code = self._failed(error, row.push_id, row.target)
            except ExceptionGroup as error:
                code = self._failed(error, row.push_id, row.target)
            self.last.forget()
            if code in _STOPS_ALL:
                return

    def _done(self, receipt: Receipt) -> None:
        self.receipts.append((receipt, self.last.resumed))
        self.json_results.append(receipt.to_dict())

    def _failed(self, error: BaseException, push_id: str, table: str) -> int:
        """Print and collect the failure of one of several pushes; return its exit code, or 0 if the push was skipped."""
        if isinstance(error, ConfigError) and error.key == "push_id":  # this push cannot be resumed
            self._skipped += 1
            if not self._quiet:
                terminal.print_to_stderr([f"skipped: {error}"])
            return 0
        code = exit_codes.exit_code_for(error)
        self.code = max(self.code, code, key=_BY_SEVERITY.index)
        first, *rest = exit_codes.error_lines(error, hints=self._hints)
        kind, _, text = first.partition(": ")
        terminal.print_failure(
            [f"{kind}: push {push_id} ({table}): {text or 'the process was asked to stop'}", *rest],
            {**exit_codes.failure_fields(error, hints=self._hints), "push_id": push_id, "table": table},
        )
        failed = exit_codes.failed_receipt(error, table=table, hints=self._hints)
        self.json_results.append({**failed, "push_id": push_id})
        return code

    def print_results(self, quota: Any, *, is_one: bool) -> None:
        """Print the results. If `is_one`, JSON output is a single object instead of a list."""
        if self._as_json:
            terminal.print_json(self.json_results[0] if is_one else self.json_results)
            return
        if self._quiet:
            return
        from pushengine.cli.describe import describe_receipt

        for number, (receipt, resumed) in enumerate(self.receipts, 1):
            is_last = number == len(self.receipts)
            terminal.print_result(
                describe_receipt(receipt, quota if is_last else None, resumed) + ([] if is_last else [""])
            )
        if self._skipped and not self.json_results:
            count = format_count(self._skipped, "unfinished push", "unfinished pushes")
            terminal.print_result([f"nothing was resumed: {count} skipped"])
        elif not self.json_results:
            terminal.print_result(["nothing to resume: no push into this pool was left unfinished"])


def history(
    *,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="Show only the newest N.")] = 20,
    failed: Annotated[
        bool, typer.Option("--failed", help="Only pushes that failed, or whose outcome is unknown.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="yesterday, today, a date, a time, or so long ago: 12h, 2d."),
    ] = None,
    table: Annotated[str | None, typer.Option("--table", metavar="TABLE", help="Only pushes into this table.")] = None,
    load: Annotated[
        str | None, typer.Option("--load", metavar="NAME", help="Only pushes of this rule, or load: sap, sap.VBAP.")
    ] = None,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """List past pushes, newest first, with the errors of those that failed. Reads this host's journal; needs no account."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_history
        from pushengine.cli.reporting.since import parse_since
        from pushengine.cli.story import summarise

        begins = 0.0 if since is None else parse_since(since, dt.datetime.now().astimezone()).timestamp()
        loaded = session.load_history_config(config, emulator)
        path = loaded.state.find_journal()
        summaries = []
        if path is not None:
            with _open_reader(path) as reader:
                summaries = [
                    summarise(row, reader.facts(row.push_id), holder=_holder(loaded, row))
                    for row in reader.select(limit=limit, is_failed=failed, since=begins, table=table, load=load)
                ]
        if as_json:
            terminal.print_json({"pushes": [summary.to_dict() for summary in summaries]})
        else:
            is_filtered = failed or since is not None or table is not None or load is not None
            terminal.print_result(
                describe_history(summaries, loaded.state_dir, is_filtered=is_filtered and path is not None)
            )

    runner.run(body, as_json=as_json)


def show(
    push: options.PushWords,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what happened in a push: what was sent, what was unknown, how it was resolved."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.push_sessions import sessions_of
        from pushengine.cli.story import describe_push_story, summarise

        loaded = session.load_history_config(config, emulator)
        with _open_reader(_require_journal(loaded, push)) as reader:
            row = reader.find(push)
            facts = reader.facts(row.push_id)
        holder = _holder(loaded, row)
        lines = describe_push_story(row, facts, holder=holder, hints=Hints(config=config, database=emulator))
        if as_json:
            terminal.print_json(
                {
                    **summarise(row, facts, holder=holder).to_dict(),
                    "team": row.team,
                    "pool_id": row.pool_id,
                    "source": row.source,
                    "runs": [run.to_dict() for run in sessions_of(facts, holder=holder)],
                    "story": lines,
                    "facts": [{"at": fact.at, "kind": fact.kind, **fact.body} for fact in facts],
                }
            )
        else:
            terminal.print_result(lines)

    runner.run(body, as_json=as_json)


def _require_journal(loaded: Config, push: str) -> Path:
    path = loaded.state.find_journal()
    if path is None:
        raise ConfigError(f"there is no push {push}: no journal in {loaded.state_dir}", key="push_id")
    return path


def _open_reader(path: Path) -> JournalReader:
    from pushengine.journal.reader import JournalReader

    return JournalReader(path)


def _holder(loaded: Config, row: Any) -> int | None:
    from pushengine.state.lock import holder_of

    return holder_of(loaded.state.locks, row.identity) if row.state == "open" else None
