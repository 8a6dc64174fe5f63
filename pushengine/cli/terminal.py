"""Output of commands: results go to stdout, everything else to stderr.

With `--json`, stdout holds exactly one JSON value. With the JSON log format, every line on stderr is one JSON object. Every line for people
goes through `text.shown_line`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from pushengine.cli.hints import PLAIN, Hints
from pushengine.errors import ConfigError
from pushengine.state.file_errors import setting_errors
from pushengine.text import shown_line, shown_name, visible_json

if TYPE_CHECKING:
    from pushengine.cli.live.display import Display
    from pushengine.cli.live.loads import LoadsDisplay
    from pushengine.config.load import LogFormat, LogLevel, LogSettings
    from pushengine.events import EventSink

_LOG_FORMAT = "--log-format"


@dataclasses.dataclass(slots=True)
class LogFormatOfRun:
    """The format of stderr during a command, as soon as it is known: from the words of the command or the environment, or else the config.

    Attributes:
        format: None as long as it is not known.
        pool: Id of the configured data pool, for JSON lines.
        config: The config file that the command or the environment names.
    """

    format: LogFormat | None = None
    pool: str | None = None
    config: Path | None = None

    @property
    def is_json(self) -> bool:
        """Whether every line on stderr must be a JSON object."""
        return self.format == "json"

    def use(self, format: LogFormat) -> None:  # noqa: A002 - named like the setting
        """Write to stderr in this format from now on."""
        self.format = format
        if format == "json":
            first_line.erase()
            from pushengine.logs import JsonStderr, configure_logging

            configure_logging("json", "debug")
            if not isinstance(sys.stderr, JsonStderr):
                sys.stderr = JsonStderr(sys.stderr)

    def use_that_of_config(self) -> None:
        """Use the format in the config file, if a command fails before it was read."""
        if self.format is None:
            from pushengine.config.load import log_format_in

            self.use(log_format_in(self.config) or "console")


log_format = LogFormatOfRun()


@contextlib.contextmanager
def writing_logs(words: Sequence[str]) -> Iterator[None]:
    """Write to stderr, while the context is open, in the format that the words of a command or the environment name."""
    stderr = sys.stderr
    before = dataclasses.replace(log_format)
    given = _value_of(words, _LOG_FORMAT) or os.environ.get("PUSHENGINE_LOG")
    file = _value_of(words, "--config") or os.environ.get("PUSHENGINE_CONFIG")
    log_format.format, log_format.pool, log_format.config = None, None, Path(file) if file else None
    if given == "json":
        log_format.use("json")
    elif given == "console":
        log_format.use("console")
    root, handler = logging.getLogger(), _LogHandler(logging.WARNING)
    root.addHandler(handler)
    try:
        yield
    finally:
        first_line.erase()
        root.removeHandler(handler)
        if log_format.is_json and sys.stderr is not stderr:
            sys.stderr.write("\n")  # ends a line that is incomplete
        sys.stderr = stderr
        log_format.format, log_format.pool, log_format.config = before.format, before.pool, before.config


def _value_of(words: Sequence[str], name: str) -> str | None:
    """Return the last value of an option among the words of a command; None if it is not there."""
    value = None
    for number, word in enumerate(words):
        if word == "--":
            break
        if word == name and number + 1 < len(words):
            value = words[number + 1]
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
    return value


class _LogHandler(logging.Handler):
    """Writes what libraries log, such as asyncio and the emulator, as lines of stderr."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record: its message, and its traceback as further lines."""
        from pushengine.cli.exit_codes import traceback_lines

        try:
            lines = [record.getMessage()]
        except (TypeError, ValueError):  # arguments that do not fit the message
            lines = [str(record.msg)]
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            lines += traceback_lines(error)
        print_to_stderr(lines, level="error" if record.levelno >= logging.ERROR else "warning")


@dataclasses.dataclass(slots=True)
class FirstLine:
    """A line on a terminal that says what a command is about to do, before anything heavy is imported. Any other output erases it."""

    _is_shown: bool = False

    def show(self, text: str, *, is_quiet: bool = False) -> None:
        """Show the line, if stderr is a terminal for people."""
        is_wanted = sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
        if is_quiet or log_format.is_json or not is_wanted:
            return
        from pushengine.cli.reporting.cells import fit, terminal_width

        with contextlib.suppress(OSError):
            sys.stderr.write(fit(f"  {shown_line(text)}", terminal_width() - 1))
            sys.stderr.flush()
            self._is_shown = True

    def erase(self) -> None:
        """Erase the line, if it is there."""
        if self._is_shown:
            self._is_shown = False
            with contextlib.suppress(OSError):
                sys.stderr.write("\r\x1b[2K")
                sys.stderr.flush()


first_line = FirstLine()


def print_result(lines: Sequence[str]) -> None:
    """Print the result of a command for people."""
    with ignoring_broken_pipe():
        _write(lines, sys.stdout)


def print_text(text: str) -> None:
    """Print the result of a command that is a file of its own, such as a page of HTML, unchanged."""
    with ignoring_broken_pipe():
        sys.stdout.write(text)
        sys.stdout.flush()


def print_json(value: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> None:
    """Print the result of a command as JSON: indented on a terminal, otherwise on one line."""
    first_line.erase()
    with ignoring_broken_pipe():
        sys.stdout.write(f"{visible_json(json.dumps(value, indent=2 if sys.stdout.isatty() else None))}\n")
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


def print_to_stderr(lines: Sequence[str], level: LogLevel = "info") -> None:
    """Print lines to stderr, as JSON objects of a level if that is the format; ignore that its reader has gone."""
    if log_format.is_json:
        from pushengine.logs import log_line

        for line in filter(None, lines):
            log_line("message_printed", level, message=line, pool=log_format.pool)
        return
    with contextlib.suppress(OSError):
        _write(lines, sys.stderr)


def print_failure(lines: Sequence[str], fields: Mapping[str, Any]) -> None:
    """Print a failure to stderr: lines for people, or one JSON object with the fields."""
    log_format.use_that_of_config()
    if not log_format.is_json:
        print_to_stderr(lines)
        return
    from pushengine.logs import log_line

    log_line("command_failed", "error", **{"pool": log_format.pool, **fields})


def _write(lines: Sequence[str], stream: TextIO) -> None:
    first_line.erase()
    lines = [shown_line(line) for line in lines]  # whatever the names and messages in them contain
    if stream.isatty():
        from pushengine.cli.live.colors import print_lines

        print_lines(lines, stream)
    else:
        stream.write("".join(f"{line}\n" for line in lines))
    stream.flush()


def choose_display(*, is_json: bool, is_quiet: bool, hints: Hints = PLAIN, title: str = "pushengine") -> Display:
    """Choose the display of progress on stderr: none if quiet, live lines on a capable terminal, plain lines otherwise.

    `title` is what live lines name until a table is known.
    """
    from rich.console import Console

    from pushengine.cli.live.display import LiveDisplay, PlainDisplay, QuietDisplay

    console = Console(stderr=True)
    if is_quiet:
        return QuietDisplay()
    if is_json or not console.is_terminal or console.is_dumb_terminal:
        return PlainDisplay(sys.stderr, hints=hints)
    first_line.erase()
    return LiveDisplay(console, hints=hints, title=title)


def choose_sinks(
    log: LogSettings, *, is_json: bool, is_quiet: bool, hints: Hints = PLAIN, title: str = "pushengine"
) -> tuple[Display, list[EventSink]]:
    """Configure logging, and choose the display and the event sinks.

    The console format shows progress, plus log lines if a log level is configured. The JSON format shows only log lines.
    """
    from pushengine.cli.live.display import LogDisplay
    from pushengine.logs import LogSink

    _configure_logging(log, is_quiet=is_quiet)
    if log.format == "json":
        return LogDisplay(log_format.pool), [LogSink()]
    display = choose_display(is_json=is_json, is_quiet=is_quiet, hints=hints, title=title)
    return display, [display, *([LogSink()] if log.level and not is_quiet else [])]


def choose_loads_sinks(
    log: LogSettings, *, is_json: bool, is_quiet: bool, hints: Hints = PLAIN
) -> tuple[LoadsDisplay, list[EventSink]]:
    """Configure logging, and choose the display and the event sinks of a run of many loads; as `choose_sinks`."""
    from rich.console import Console

    from pushengine.cli.live.loads import LiveLoads, LoadLines, LogLoads, QuietLoads
    from pushengine.logs import LogSink

    _configure_logging(log, is_quiet=is_quiet)
    if log.format == "json":
        return LogLoads(log_format.pool), [LogSink()]
    console = Console(stderr=True)
    display: LoadsDisplay
    if is_quiet:
        display = QuietLoads()
    elif is_json or not console.is_terminal or console.is_dumb_terminal:
        display = LoadLines(sys.stderr, hints=hints)
    else:
        first_line.erase()
        display = LiveLoads(console, hints=hints)
    return display, [display, *([LogSink()] if log.level and not is_quiet else [])]


def _configure_logging(log: LogSettings, *, is_quiet: bool) -> None:
    from pushengine.logs import configure_logging

    level = "error" if is_quiet else log.level or ("debug" if log.format == "json" else "warning")
    configure_logging(log.format, level)
