"""`journal check` and `journal export`: check the record of all pushes, and save what can be read of a damaged one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pushengine.cli import exit_codes, options, runner, session, terminal
from pushengine.errors import ConfigError

if TYPE_CHECKING:
    from pushengine.journal.salvage import ExportResult


def check(config: options.ConfigPath = None, as_json: options.AsJson = False) -> None:
    """Check whether the journal is intact, and what can be read."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_journal_check
        from pushengine.journal.salvage import check_journal

        path = _path(config)
        if not path.exists():
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
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", help="File to create; stdout if not given.")
    ] = None,
    config: options.ConfigPath = None,
) -> None:
    """Write all readable facts as JSON lines, even from a damaged journal. The journal is not changed."""

    async def body(_interrupts: runner.Interrupts) -> None:
        from pushengine.cli.describe import describe_export

        path = _path(config)
        if not path.exists():
            raise ConfigError(f"there is no journal: {path}", key="PUSHENGINE_STATE_DIR")
        with terminal.ignoring_broken_pipe():
            result = _export_to(path, output)
            terminal.print_to_stderr(describe_export(result, output))
            if result.problems:
                raise typer.Exit(exit_codes.EXIT_USAGE)

    runner.run(body)


def _path(config: Path | None) -> Path:
    return session.load_config(config=config, wants_credentials=False).state.journal


def _export_to(path: Path, output: Path | None) -> ExportResult:
    from pushengine.journal.salvage import export_facts

    if output is None:
        return export_facts(path, sys.stdout.write)
    try:
        with output.open("x", encoding="utf-8") as file:
            return export_facts(path, file.write)
    except FileExistsError as error:
        raise ConfigError(f"{output} exists", key="--output", hint="name a new file") from error
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error.strerror}", key="--output") from error
