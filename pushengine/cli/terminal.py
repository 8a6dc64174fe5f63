"""Output of commands: results go to stdout, everything else to stderr. With `--json`, stdout holds exactly one JSON value."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pushengine.cli.hints import PLAIN, Hints
from pushengine.errors import ConfigError
from pushengine.state.file_errors import setting_errors
from pushengine.text import shown_name, shown_text

if TYPE_CHECKING:
    from pushengine.cli.display import Display
    from pushengine.config.load import Config
    from pushengine.events import EventSink


def print_result(lines: Sequence[str]) -> None:
    """Print the result of a command for people."""
    with ignoring_broken_pipe():
        _write(lines, sys.stdout)


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print the result of a command as JSON: indented on a terminal, otherwise on one line."""
    with ignoring_broken_pipe():
        sys.stdout.write(f"{json.dumps(value, indent=2 if sys.stdout.isatty() else None)}\n")
        sys.stdout.flush()


@contextlib.contextmanager
def ignoring_broken_pipe() -> Iterator[None]:
    """Ignore that the reader of stdout has gone (`| head`): this must not change the exit code.

    Raises:
        ConfigError: The block raised another error of the operating system: stdout cannot be written, as on a full disk.
    """
    try:
        yield
    except OSError as error:
        refused = output_error(error)
        if refused is not None:
            raise refused from error


def output_error(error: OSError) -> ConfigError | None:
    """Discard all further output to stdout, and return what to report; None if its reader has gone.

    Without that, the flush at interpreter exit would fail again.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return None
    try:
        with setting_errors("cannot write", "standard output", key="stdout"):
            raise error
    except ConfigError as refused:
        return refused


def replace_closed_streams() -> None:
    """Open the null device in place of standard streams that the shell has closed (`>&-`).

    Otherwise the next files that are opened, such as the journal, would get their numbers, and with them what libraries write to stderr.
    """
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            number = os.open(os.devnull, os.O_RDWR)  # the lowest free number
            if name != "stdin":  # which is reported as closed
                setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115


@contextlib.contextmanager
def writing_to(output: Path | None) -> Iterator[TextIO]:
    """Open a new file for the text that a command writes; stdout without one.

    Raises:
        ConfigError: The file exists or cannot be written.
    """
    if output is None:
        yield sys.stdout
        return
    with setting_errors("cannot write", output, key="--output", hint="name a file that can be created"):
        try:
            file = output.open("x", encoding="utf-8")
        except FileExistsError as error:
            raise ConfigError(f"{shown_name(str(output))} exists", key="--output", hint="name a new file") from error
        try:
            with file:
                yield file
        except BaseException:
            with contextlib.suppress(OSError):  # a part of the text would look like all of it
                output.unlink()
            raise


def print_to_stderr(lines: Sequence[str]) -> None:
    """Print lines to stderr; ignore that its reader has gone."""
    with contextlib.suppress(OSError):
        _write(lines, sys.stderr)


def _write(lines: Sequence[str], stream: TextIO) -> None:
    lines = [shown_text(line) for line in lines]  # whatever the names and messages in them contain
    if stream.isatty():
        from pushengine.cli.display import print_lines

        print_lines(lines, stream)
    else:
        stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()


def choose_display(*, is_json: bool, is_quiet: bool, hints: Hints = PLAIN) -> Display:
    """Choose the display of progress on stderr: none if quiet, live lines on a capable terminal, plain lines otherwise."""
    from rich.console import Console

    from pushengine.cli.display import LiveDisplay, PlainDisplay, QuietDisplay

    console = Console(stderr=True)
    if is_quiet:
        return QuietDisplay()
    if is_json or not console.is_terminal or console.is_dumb_terminal:
        return PlainDisplay(sys.stderr, hints=hints)
    return LiveDisplay(console, hints=hints)


def choose_sinks(config: Config, *, is_json: bool, is_quiet: bool, hints: Hints) -> tuple[Display, list[EventSink]]:
    """Configure logging, and choose the display and the event sinks.

    The console format shows progress, plus log lines if a log level is configured. The JSON format shows only log lines.
    """
    from pushengine.cli.display import QuietDisplay
    from pushengine.logs import LogSink, configure_logging

    log = config.log
    level = "error" if is_quiet else log.level or ("debug" if log.format == "json" else "warning")
    configure_logging(log.format, level)
    if log.format == "json":
        return QuietDisplay(), [LogSink()]
    display = choose_display(is_json=is_json, is_quiet=is_quiet, hints=hints)
    return display, [display, *([LogSink()] if log.level and not is_quiet else [])]
