"""Run one command: event loop, signals, error output and exit code."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NoReturn

import typer

from pushengine import errors, events
from pushengine.cli import exit_codes, terminal
from pushengine.cli.hints import PLAIN, Hints
from pushengine.model import Receipt

if TYPE_CHECKING:
    from types import FrameType


@dataclasses.dataclass(slots=True)
class Debugging:
    """Whether failures show their traceback. `PUSHENGINE_DEBUG=1` has the same effect as `is_on`."""

    is_on: bool = False


debugging = Debugging()


class Interrupts:
    """Handles SIGINT and SIGTERM: the first signal starts a graceful shutdown, the next one aborts.

    Attributes:
        drain: Called on the first signal. None until there is something to drain; as long as it is None, every signal aborts.
        note: Called with the line to show to the user when the shutdown starts.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._is_draining = False
        self.drain: Callable[[], None] | None = None
        self.note: Callable[[str], None] = lambda _text: None

    def install(self) -> None:
        """Handle SIGINT and SIGTERM until the running event loop ends."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self.interrupt)
            except NotImplementedError:  # Windows: event loops have no signal handlers
                signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(self.interrupt))

    def interrupt(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Handle one signal."""
        if self.drain is None or self._is_draining:
            self._task.cancel()
            return
        self._is_draining = True
        self.drain()
        self.note("stopping: requests in flight are finished first; another Ctrl-C or SIGTERM aborts")


class LastReceipt:
    """An event sink that keeps the latest receipt, because the error of an aborted push does not carry one.

    Attributes:
        resumed: What an earlier process had already done of the latest resumed push; None if no push was resumed.
    """

    def __init__(self) -> None:
        self._receipt: Receipt | None = None
        self.resumed: events.PushResumed | None = None

    def emit(self, event: events.Event) -> None:
        """Keep the receipt of the event, if it has one."""
        if isinstance(event, events.PushResumed):
            self.resumed = event
        self._receipt = getattr(event, "receipt", self._receipt)

    def forget(self) -> None:
        """Forget the receipt: what fails from now on is not about that push."""
        self._receipt = None

    def attach_to(self, error: BaseException) -> None:
        """Set the receipt on the error, unless it has one."""
        cause: Any = errors.real_cause(error)
        if getattr(cause, "receipt", None) is None:
            cause.receipt = self._receipt  # on any exception: an interrupt, a cancellation or a bug, too


Body = Callable[[Interrupts], Awaitable[None]]


def run(
    body: Body,
    *,
    as_json: bool = False,
    on_error: Callable[[BaseException], None] | None = None,
    hints: Hints = PLAIN,
) -> None:
    """Run a command. If it fails, print the error to stderr and exit with its exit code.

    Args:
        body: The work of the command.
        as_json: Whether to print a failure as a JSON object on stdout as well.
        on_error: Called with the failure before it is printed, for commands that print a more detailed JSON object. Ignored if `as_json`.
        hints: How hints name the commands that help.

    Raises:
        typer.Exit: The command failed.
    """

    async def guarded() -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine that asyncio.run() runs is in a task
        interrupts = Interrupts(task)
        interrupts.install()
        await body(interrupts)

    try:
        asyncio.run(guarded())
    except typer.Exit:
        raise
    except BaseException as error:
        if isinstance(error, SystemExit | GeneratorExit):
            raise
        _fail(error, _print_json_error if as_json else on_error, hints)


def _fail(error: BaseException, on_error: Callable[[BaseException], None] | None, hints: Hints) -> NoReturn:
    if on_error is not None:
        on_error(error)
    print_error(error, hints)
    raise typer.Exit(exit_codes.exit_code_for(error)) from None


def print_error(error: BaseException, hints: Hints = PLAIN) -> None:
    """Print an error to stderr, with its traceback if that is wanted."""
    lines, fields = exit_codes.error_lines(error, hints=hints), exit_codes.failure_fields(error, hints=hints)
    if debugging.is_on or os.environ.get("PUSHENGINE_DEBUG", "") not in ("", "0"):
        traceback = exit_codes.traceback_lines(error)
        lines, fields["traceback"] = [*traceback, *lines], "\n".join(traceback)
    terminal.print_failure(lines, fields)


def _print_json_error(error: BaseException) -> None:
    """Print the JSON object for a failed command that has no JSON object of its own."""
    terminal.print_json({"status": "ERROR", "error": exit_codes.describe_error(error)})
