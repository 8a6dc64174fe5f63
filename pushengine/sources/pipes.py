"""Sources with a name that can be read only once: FIFOs, `/dev/stdin`, `/dev/fd/N`, and a shell's process substitution `<(...)`."""

from __future__ import annotations

import os
import re
import select
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pushengine.errors import ConfigError, unreadable
from pushengine.sources.registry import format_named
from pushengine.text import shown_name

_DESCRIPTOR = re.compile(r"/dev/(?:stdin|fd/(\d+))|/proc/self/fd/(\d+)")
"""Paths of open files of this process, which mean something else in the next one."""
_STANDARD_INPUT = "-"


class Pipe:
    """A pipe that is opened at the first read (`sources.spool.ByteStream`); a context manager that closes it.

    Opening and reading block until a program writes into the pipe. `close()` ends that wait, from another thread.

    Args:
        path: Path of the pipe.

    Attributes:
        name: The path, for messages.
        format: Name of the file format that the path shows; None if it shows none.
    """

    def __init__(self, path: str) -> None:
        self.name = path
        self.format = format_named(path)
        self._file: int | None = None
        self._lock = threading.Lock()
        self._wake, self._waker = os.pipe()
        self._is_closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; empty at the end, or once the pipe is closed. Blocks.

        Raises:
            SourceReadError: The pipe cannot be opened or read.
        """
        with self._lock:
            try:
                while not self._is_closed:
                    if self._file is None:
                        self._file = _open(self.name)
                    poll = select.poll()
                    poll.register(self._file, select.POLLIN)
                    poll.register(self._wake, select.POLLIN)
                    ready = {descriptor for descriptor, _ in poll.poll()}
                    if self._wake not in ready:
                        return os.read(self._file, size)
            except OSError as exc:
                raise unreadable(self.name, exc) from exc
        return b""

    def close(self) -> None:
        """Close the pipe; safe to call twice."""
        if self._is_closed:
            return
        self._is_closed = True
        os.close(self._waker)  # the other end becomes readable
        with self._lock:
            os.close(self._wake)
            if self._file is not None:
                os.close(self._file)


def _open(name: str) -> int:
    descriptor = _DESCRIPTOR.fullmatch(name)
    if descriptor is not None:  # a path could not open a socket
        return os.dup(int(descriptor[1] or descriptor[2] or 0))
    # Without O_NONBLOCK, this would wait for a writer where nothing could end the wait.
    return os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def find_pipe(source: Any) -> Pipe | None:
    """Return the pipe that a path names, or a list with one path; None if it names none. Blocking.

    Raises:
        ConfigError: A pipe or standard input (`-`) is one of several sources: together they are no text with one header line.
    """
    names = [os.fspath(word) for word in (source if isinstance(source, list | tuple) else [source])]
    pipes = [name for name in names if _is_pipe(name)]
    if len(names) > 1 and (pipes or _STANDARD_INPUT in names):
        raise _one_of_several([*pipes, _STANDARD_INPUT])
    return Pipe(pipes[0]) if pipes else None


def _one_of_several(names: Sequence[str]) -> ConfigError:
    what = "standard input (-)" if names[0] == _STANDARD_INPUT else f"the pipe {shown_name(names[0])}"
    return ConfigError(
        f"{what} cannot be one of several sources",
        key="source",
        hint="push it alone, or write it to a file first",
    )


def _is_pipe(name: str) -> bool:
    if os.name != "posix":
        return False
    try:
        return bool(_DESCRIPTOR.fullmatch(name)) or stat.S_ISFIFO(Path(name).stat().st_mode)
    except (OSError, ValueError):  # there is no such file, which its listing reports
        return False
