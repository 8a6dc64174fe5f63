"""`report`: what the runs of loads did, in one look."""

from __future__ import annotations

import contextlib
import datetime as dt
import enum
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pushengine.cli import options, runner, session, terminal
from pushengine.cli.hints import Hints
from pushengine.errors import ConfigError
from pushengine.state.file_errors import setting_errors
from pushengine.text import shown_name, visible_json

if TYPE_CHECKING:
    from pushengine.journal.loads import Run
    from pushengine.loads.report import Report, RunMemory


class FormatName(enum.StrEnum):
    """The formats of a report."""

    TEXT = "text"
    HTML = "html"
    MARKDOWN = "md"
    JSON = "json"


def report(
    *,
    since: Annotated[
        str,
        typer.Option(
            "--since",
            metavar="TIME",
            help="yesterday (at noon: one night), today, a date, a time, or so long ago: 12h, 2d. Local time.",
        ),
    ] = "yesterday",
    form: Annotated[FormatName, typer.Option("--format", help="html: one file to mail.")] = FormatName.TEXT,
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="Write to this file, in place of an older one.")
    ] = None,
    load: Annotated[
        list[str] | None,
        typer.Option("--load", metavar="NAME", help="Only this rule, load (RULE.TABLE) or pattern; repeatable."),
    ] = None,
    config: options.ConfigPath = None,
    emulator: options.EmulatorState = None,
    as_json: options.AsJson = False,
) -> None:
    """Show what last night's loads did, and what needs a look.

    What failed, is missing, blocked or late comes first, with what to do. Exits with 3 if there is such a load, or if nothing ran.
    Reads this host's journal; needs no account.
    """
    chosen = FormatName.JSON if as_json else form

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.reporting.since import parse_since

        now = dt.datetime.now().astimezone()
        begins = parse_since(since, now)
        loaded = session.load_history_config(config, emulator)
        path = loaded.state.find_journal()
        if path is None:
            raise ConfigError(
                f"there is no journal in {shown_name(str(loaded.state_dir))}, so nothing was ever loaded from there",
                key="state",
                hint="name the config file of the loads with --config, or set PUSHENGINE_STATE_DIR to their state folder",
            )
        found = _read(path, begins, now, load or ())
        _write(_rendered(found, chosen, Hints(config=config, database=emulator), is_file=output is not None), output)
        if found.exit_code:
            raise typer.Exit(found.exit_code)

    runner.run(body, as_json=chosen is FormatName.JSON)


def _read(path: Path, since: dt.datetime, until: dt.datetime, names: list[str] | tuple[str, ...]) -> Report:
    from pushengine.journal.reader import JournalReader
    from pushengine.loads.report import make_report

    with JournalReader(path) as reader:
        memory = reader.loads
        require_known(memory, names)
        return make_report(memory, since=since, until=until, names=names, is_working=_is_working)


def require_known(memory: RunMemory, names: list[str] | tuple[str, ...]) -> None:
    """Require that each name stands for a load that the journal knows.

    Raises:
        ConfigError: One does not: a report on it would say that all is well.
    """
    from pushengine.loads.report import known_names, matches
    from pushengine.text import shown_some

    known = known_names(memory) if names else set()
    for name in names:
        if not any(matches(rule, table, name) for rule, table in known):
            there = shown_some(sorted({rule for rule, _ in known}))
            hint = f"there is: {there}" if known else "no load has run yet"
            raise ConfigError(f"the journal has no load {shown_name(name)}", key="--load", hint=hint)


def _is_working(run: Run) -> bool:
    """Whether the process of a run is alive."""
    if os.name == "nt" or not run.pid:  # on Windows, a signal would end it
        return bool(run.pid)
    try:
        os.kill(run.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _rendered(report: Report, form: FormatName, hints: Hints, *, is_file: bool) -> str | list[str]:
    """Return the report: lines for a terminal, or the text of a file."""
    from pushengine.cli.reporting import report_html, report_markdown
    from pushengine.cli.reporting.cells import WIDTH, terminal_width
    from pushengine.cli.reporting.report_text import describe_report

    match form:
        case FormatName.HTML:
            return report_html.report_html(report, hints=hints)
        case FormatName.MARKDOWN:
            return report_markdown.report_markdown(report, hints=hints)
        case FormatName.JSON:
            return f"{visible_json(json.dumps(report_markdown.report_json(report, hints=hints), indent=2))}\n"
    return describe_report(report, width=WIDTH if is_file else terminal_width(), hints=hints)


def _write(text: str | list[str], output: Path | None) -> None:
    if output is not None:
        _replace(output, text if isinstance(text, str) else "".join(f"{line}\n" for line in text))
    elif isinstance(text, list):
        terminal.print_result(text)
    else:
        terminal.print_text(text)


def _replace(output: Path, text: str) -> None:
    """Write a file whole, in place of an older one.

    Raises:
        ConfigError: It cannot be written.
    """
    new = output.with_name(f".{output.name}.{os.getpid()}.new")
    with setting_errors("cannot write", output, key="--output", hint="name a file that can be written"):
        try:
            new.write_text(text, encoding="utf-8", errors="backslashreplace")
            new.replace(output)
        except BaseException:
            with contextlib.suppress(OSError):
                new.unlink()
            raise
