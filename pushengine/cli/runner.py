"""One command from its first step to its exit code: event loop, signals, and what is said when it fails."""

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
from pushengine.model import Receipt

if TYPE_CHECKING:
    from types import FrameType


@dataclasses.dataclass(slots=True)
class Debugging:
    """Whether failures show their traceback; `PUSHENGINE_DEBUG=1` says the same as `is_on`."""

    is_on: bool = False


debugging = Debugging()


class Interrupts:
    """SIGINT and SIGTERM: the first asks the work to come to an end, the next aborts it.

    Attributes:
        drain: What the first signal calls, set once there is something to drain; until then the first aborts.
        note: Takes the line that tells the user.
    """

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._is_draining = False
        self.drain: Callable[[], None] | None = None
        self.note: Callable[[str], None] = lambda _text: None

    def install(self) -> None:
        """Take over the two signals, for as long as the loop runs."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            try:
                loop.add_signal_handler(number, self.interrupt)
            except NotImplementedError:  # Windows: its loops have no signal handlers
                signal.signal(number, lambda _number, _frame: loop.call_soon_threadsafe(self.interrupt))

    def interrupt(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """A signal came."""
        if self.drain is None or self._is_draining:
            self._task.cancel()
            return
        self._is_draining = True
        self.drain()
        self.note("stopping: what is under way is finished first; Ctrl-C again to abort")


class LastReceipt:
    """An event sink that keeps the receipt of a push that failed: an aborted one raises no error that could carry it.

    Attributes:
        resumed: What an earlier process had done of the last push, or None.
    """

    def __init__(self) -> None:
        self._receipt: Receipt | None = None
        self.resumed: events.PushResumed | None = None

    def emit(self, event: events.Event) -> None:
        """Take one event."""
        if isinstance(event, events.PushResumed):
            self.resumed = event
        self._receipt = getattr(event, "receipt", self._receipt)

    def attach_to(self, error: BaseException) -> None:
        """Give the error the receipt, if it has none."""
        cause: Any = errors.real_cause(error)
        if getattr(cause, "receipt", None) is None:
            cause.receipt = self._receipt  # not made by us: an interrupt, a cancellation or a bug


Body = Callable[[Interrupts], Awaitable[None]]


def run(
    body: Body,
    *,
    as_json: bool = False,
    on_error: Callable[[BaseException], None] | None = None,
    keeps_pushes: bool = True,
) -> None:
    """Run a command; turn its failure into lines on stderr and an exit code.

    Args:
        body: What to do.
        as_json: Print a failure as a JSON object on stdout, too.
        on_error: Called with the failure first, by a command whose own JSON says more than that object.
        keeps_pushes: What is left unfinished can be resumed; a push into an embedded emulator ends with it.

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
        _fail(error, _print_json_error if as_json else on_error, keeps_pushes=keeps_pushes)


def _fail(error: BaseException, on_error: Callable[[BaseException], None] | None, *, keeps_pushes: bool) -> NoReturn:
    if debugging.is_on or os.environ.get("PUSHENGINE_DEBUG", "") not in ("", "0"):
        import traceback

        from pushengine.redaction import mask

        terminal.print_error([mask("".join(traceback.format_exception(error)).rstrip())])
    if on_error is not None:
        on_error(error)
    terminal.print_error(exit_codes.error_lines(error, keeps_pushes=keeps_pushes))
    raise typer.Exit(exit_codes.exit_code_for(error)) from None


def _print_json_error(error: BaseException) -> None:
    """Print what `--json` shows when a command other than a push fails."""
    terminal.print_json({"status": "ERROR", "error": exit_codes.describe_error(error)})
