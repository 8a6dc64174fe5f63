"""`journal check` and `journal export`: check the record of all pushes, and save what can be read of a damaged one."""

from __future__ import annotations

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
