"""The command line application: registers the commands of `pushengine.cli.commands` and runs the one that was called.

`pushengine.cli.exit_codes` lists the exit codes. With `--json`, stdout holds exactly one JSON value, even if the command fails: that value
has `status` and `error` (`type`, `message`, `hint`). Heavy libraries are imported only when a command needs them, which keeps
`pushengine --help` fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer

from pushengine.cli import options, runner, terminal
from pushengine.cli.commands import (
    config,
    init,
    jobs,
    journal,
    load,
    local,
    manual,
    push,
    pushes,
    report,
    schema,
    state,
    team,
)
from pushengine.cli.exit_codes import EXIT_USAGE, exit_code_for
from pushengine.cli.help import completion

_EPILOG = "Exit codes: 0 done, 1 bug, 2 usage or config, 3 failed, 4 authentication, 6 outcome unknown, 75 try again, 130 interrupted."

app = typer.Typer(
    name="pushengine",
    help="Load tables into Celonis data pools: fast, in bounded memory, within the submit quota.",
    epilog=_EPILOG,
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

schema_app = typer.Typer(
    help="What is remembered of the tables that were loaded: show, export, import, forget.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)

state_app = typer.Typer(
    help="What is remembered of loads: show, skip, retire, set, export, import.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)

journal_app = typer.Typer(
    help="The record of all pushes on this host: check, export, prune.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)

config_app = typer.Typer(
    help="The config file: check, show, schema.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)

quota_app = typer.Typer(
    callback=team.quota,
    cls=options.Group,
    invoke_without_command=True,
    subcommand_metavar="[reset]",
    rich_markup_mode=None,
    add_completion=False,
)

_COMMANDS: tuple[tuple[typer.Typer, str, Callable[..., None]], ...] = (
    (app, "demo", local.demo),
    (app, "init", init.init),
    (app, "push", push.push),
    (app, "plan", push.plan),
    (app, "load", load.load),
    (app, "resume", pushes.resume),
    (app, "history", pushes.history),
    (app, "show", pushes.show),
    (app, "resolve", state.resolve),
    (app, "report", report.report),
    (app, "check", team.check),
    (app, "emulator", local.emulator),
    (config_app, "check", config.check),
    (config_app, "show", config.show),
    (config_app, "schema", config.schema),
    (quota_app, "reset", team.reset_quota),
    (jobs_app, "list", jobs.list_jobs),
    (jobs_app, "show", jobs.show_job),
    (jobs_app, "delete", jobs.delete_jobs),
    (schema_app, "show", schema.show),
    (schema_app, "export", schema.export),
    (schema_app, "import", schema.import_),
    (schema_app, "forget", schema.forget),
    (state_app, "show", state.show),
    (state_app, "skip", state.skip),
    (state_app, "retire", state.retire),
    (state_app, "set", state.set_),
    (state_app, "export", state.export),
    (state_app, "import", state.import_),
    (journal_app, "check", journal.check),
    (journal_app, "export", journal.export),
    (journal_app, "prune", journal.prune),
    (app, "help", manual.manual),
    (app, "completion", manual.complete),
)
for _group, _name, _command in _COMMANDS:
    _group.command(_name, cls=options.Command)(_command)
app.add_typer(quota_app, name="quota")
app.add_typer(jobs_app, name="jobs")
app.add_typer(schema_app, name="schema")
app.add_typer(state_app, name="state")
app.add_typer(journal_app, name="journal")
app.add_typer(config_app, name="config")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        import pushengine

        terminal.print_result([f"pushengine {pushengine.__version__}"])
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks  [PUSHENGINE_DEBUG=1]")] = False,
) -> None:
    del version
    runner.debugging.is_on = debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The arguments after the program name; None means those of this process.
    """
    terminal.replace_closed_streams()
    if completion.VARIABLE in os.environ:  # a shell asks, with the words of the line as arguments
        return _complete(sys.argv[1:] if arguments is None else arguments)
    words = options.join_optional_value(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    with terminal.writing_logs(words):
        return _run(words)


def _complete(words: Sequence[str]) -> int:
    """Print the candidates for the last word, one a line."""
    terminal.print_result(completion.candidates(typer.main.get_command(app), words))
    return 0


def _run(words: Sequence[str]) -> int:
    try:
        code = typer.main.get_command(app)(args=list(words), prog_name="pushengine", standalone_mode=False)
    except Exception as error:  # noqa: BLE001 - printed, like the failure of a command
        if hasattr(error, "format_message"):  # usage errors of click and of typer's bundled click have it
            _print_usage_error(error, words)
            return EXIT_USAGE
        is_interrupted = type(error).__name__ == "Abort"  # what click makes of Ctrl-C outside of a command's own work
        cause = KeyboardInterrupt() if is_interrupted else error
        if isinstance(error, OSError):  # the help cannot be written
            refused = terminal.output_error(error)
            if refused is None:
                return 0
            cause = refused
        runner.print_error(cause)
        return exit_code_for(cause)
    return code if isinstance(code, int) else 0


def _print_usage_error(error: Any, words: Sequence[str]) -> None:
    context, message = error.ctx, error.format_message()
    if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help
        lines, message, hint = message.splitlines(), "no command was named", ""
    else:
        usage = context.get_usage().splitlines() if context is not None else []
        hint = f"{context.command_path} --help" if context is not None else ""
        lines = [*usage, *([f"Try '{hint}' for help.", ""] if hint else []), f"Error: {message}"]
    terminal.print_failure(lines, {"error": message, "error_type": "UsageError", "hint": hint, "exit_code": EXIT_USAGE})
    # The command did not start, so its parsed `--json` option is not available.
    if "--json" in words:
        error_json = {"type": "UsageError", "message": message, "hint": ""}
        terminal.print_json({"status": "ERROR", "error": error_json})
