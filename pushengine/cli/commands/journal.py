"""`journal check` and `journal export`: is the record of all pushes sound, and what can be saved if it is not."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.errors import ConfigError

if TYPE_CHECKING:
    from pushengine.journal.reader import ExportResult, JournalCheck


def check(config: options.ConfigPath = None, as_json: options.AsJson = False) -> None:
    """Say whether the journal is sound, and what can be read."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.journal.reader import check_journal

        path = _path(config)
        if not path.exists():
            if as_json:
                terminal.say_json({"path": str(path), "problems": [], "format": None, "pushes": {}, "facts": 0})
            else:
                terminal.say([f"no journal yet: {path}"])
            return
        found = check_journal(path)
        if as_json:
            terminal.say_json(found.to_dict())
        else:
            terminal.say(_check_lines(found))
        if found.problems:
            raise typer.Exit(exit_codes.EXIT_USAGE)

    runner.run(body, on_error=runner.tell_json if as_json else None)


def export(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="A new file; stdout if not given.")
    ] = None,
    config: options.ConfigPath = None,
) -> None:
    """Write all facts that can be read as JSON lines, also from a damaged journal. The journal is not touched."""

    async def body(_interrupts: runner.Interrupts) -> None:
        path = _path(config)
        if not path.exists():
            raise ConfigError(f"there is no journal: {path}", key="PUSHENGINE_STATE_DIR")
        with terminal.outliving_its_reader():
            result = _export_to(path, output)
            terminal.complain(_export_lines(result, output))
            if result.problems:
                raise typer.Exit(exit_codes.EXIT_USAGE)

    runner.run(body)


def _path(config: Path | None) -> Path:
    return session.load_config(config=config, wants_credentials=False).state_dir / "journal.sqlite3"


def _export_to(path: Path, output: Path | None) -> ExportResult:
    from pushengine.journal.reader import export_facts

    if output is None:
        return export_facts(path, sys.stdout.write)
    try:
        with output.open("x", encoding="utf-8") as file:
            return export_facts(path, file.write)
    except FileExistsError as error:
        raise ConfigError(f"{output} exists", key="--output", hint="name a new file") from error
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}", key="--output") from error


def _check_lines(found: JournalCheck) -> list[str]:
    from pushengine.text import format_bytes, format_count

    states = ", ".join(f"{count:,} {state}" for state, count in sorted(found.pushes.items()))
    total = format_count(sum(found.pushes.values()), "push").replace("pushs", "pushes")
    facts = f"{format_count(found.facts, 'fact')} can be read"
    if found.unreadable:
        facts += f", {found.unreadable:,} cannot"
    rows = [
        ("file", f"{found.path}, {format_bytes(found.size_bytes)}"),
        ("format", "cannot be read" if found.format is None else str(found.format)),
        ("pushes", f"{total}{f': {states}' if states else ''}"),
        ("facts", facts),
        *[("damage" if number == 0 else "", problem) for number, problem in enumerate(found.problems)],
    ]
    lines = ["FAILED  journal" if found.problems else "ok  journal"]
    lines += [f"  {label:<10}{value}" for label, value in rows]
    if found.problems:
        lines.append(
            "hint: `pushengine journal export --output FILE` saves what can be read; then move the journal away"
        )
    return lines


def _export_lines(result: ExportResult, output: Path | None) -> list[str]:
    from pushengine.text import format_count

    told = f"{format_count(result.facts, 'fact')} written{f' to {output}' if output else ''}"
    lines = [f"{told}, {result.unreadable:,} could not be read" if result.unreadable else told]
    return [*lines, *[f"the journal is damaged: {problem}" for problem in result.problems]]
