"""Locks of the operating system on files of the state folder."""

from __future__ import annotations

import os
from pathlib import Path

from pushengine.errors import JournalLockedError


class PushLock:
    """One process per push: an OS lock on `locks/<identity>.lock`, given back by the system however the process ends.

    Raises:
        JournalLockedError: Another process works on the same push.
    """

    def __init__(self, folder: Path, identity: str) -> None:
        import fcntl  # noqa: PLC0415 - not on every platform

        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.path = folder / f"{identity[:32]}.lock"
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._descriptor)
            raise JournalLockedError(
                f"this push is held by pid {holder}",
                path=str(self.path),
                hint="wait for it, or stop that process; then run the same command again",
            ) from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode("ascii"), 0)

    def release(self) -> None:
        """Let others have it; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def holder_of(folder: Path, identity: str) -> int | None:
    """The process that works on a push at this moment, or None: asks the operating system for the push's lock (`journal.PushLock`)."""
    import fcntl  # noqa: PLC0415 - not on every platform

    try:
        descriptor = os.open(folder / f"{identity[:32]}.lock", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
        return int(pid) if pid.isdecimal() else None
    finally:
        os.close(descriptor)
    return None
