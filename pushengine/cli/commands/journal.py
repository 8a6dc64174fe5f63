"""`journal check`, `export` and `prune`: check the record of all pushes, save what can be read of a damaged one, and shorten it."""

from __future__ import annotations

import datetime as dt
from typing import Annotated

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.errors import ConfigError


def check(config: options.ConfigPath = None, as_json: options.AsJson = False) -> None:
    """Check whether the journal is intact, and what can be read."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_journal_check
        from pushengine.journal.salvage import check_journal

        state = session.load_config(config=config, wants_credentials=False).state
        path = state.find_journal()
        if path is None:
            path = state.journal
            if as_json:
                terminal.print_json({"path": str(path), "problems": [], "format": None, "pushes": {}, "facts": 0})
            else:
                terminal.print_result([f"no journal yet: {path}"])
            return
        found = check_journal(path)
        if as_json:
            terminal.print_json(found.to_dict())
        else:
            terminal.print_result(describe_journal_check(found))
        if found.problems:
            raise typer.Exit(exit_codes.EXIT_USAGE)

    runner.run(body, as_json=as_json)


def export(
    output: options.Output = None,
    config: options.ConfigPath = None,
) -> None:
    """Write all readable facts as JSON lines, even from a damaged journal. The journal is not changed."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_export
        from pushengine.journal.salvage import export_facts

        state = session.load_config(config=config, wants_credentials=False).state
        path = state.find_journal()
        if path is None:
            raise ConfigError(f"there is no journal: {state.journal}", key="PUSHENGINE_STATE_DIR")
        with terminal.ignoring_broken_pipe():
            with terminal.writing_to(output) as file:
                result = export_facts(path, file.write)
            terminal.print_to_stderr(describe_export(result, output))
            if result.problems:
                raise typer.Exit(exit_codes.EXIT_USAGE)

    runner.run(body)


def prune(
    *,
    before: Annotated[
        str | None,
        typer.Option("--before", metavar="TIME", help="A date, a time, or an age: 90d. Without it: `history_days`."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be deleted; change nothing.")] = False,
    config: options.ConfigPath = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete pushes and runs that ended long ago. What is remembered of loads and tables stays, and so do all load ids."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.reporting.since import parse_since
        from pushengine.text import format_count, iso_utc

        now = dt.datetime.now().astimezone()
        loaded = session.load_config(config=config, wants_credentials=False)
        ended = now - dt.timedelta(days=loaded.engine.history_days)
        if before is not None:
            ended = parse_since(before, now, flag="--before")
        if loaded.state.find_journal() is None:
            raise ConfigError(f"there is no journal: {loaded.state.journal}", key="PUSHENGINE_STATE_DIR")
        with session.editing_journal(loaded) as journal:
            pushes, runs = journal.prunable(ended.timestamp())
            if not dry_run:
                journal.prune(ended.timestamp())
        if as_json:
            terminal.print_json(
                {"before": iso_utc(ended.timestamp()), "pushes": pushes, "runs": runs, "is_dry_run": dry_run}
            )
            return
        what = f"{format_count(pushes, 'push', 'pushes')} and {format_count(runs, 'run')} that ended before"
        verb = "would be deleted" if dry_run else "deleted"
        terminal.print_result([f"{verb}: {what} {iso_utc(ended.timestamp())}"])

    runner.run(body, as_json=as_json)
