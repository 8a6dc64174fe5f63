"""Remove `fcntl` and other POSIX names from Python, in processes that are started with this folder in PYTHONPATH.

Instead of `fcntl`, they get an `msvcrt` whose `locking()` works as on Windows: it locks ranges of bytes, never shared, and the locks end with
the process. Open files can be neither renamed nor deleted, and folders cannot be opened. The variable LOCKED_BYTES names the folder that
holds the lock files; without it there is no `msvcrt` either.
"""

import asyncio  # noqa: F401 - asyncio itself needs fcntl on this system, so it is imported first
import errno
import fcntl as _real
import importlib.abc
import os
import shutil
import sys
import types

_POSIX_ONLY = ("pread", "pwrite", "fdatasync", "fchmod", "sched_getaffinity", "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY")
_FOLDER = os.environ.get("LOCKED_BYTES")
_taken = {}


class _Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname in ("fcntl", "termios", "resource", "msvcrt"):
            raise ModuleNotFoundError("simulated: this system does not have the module", name=fullname)


def _locking(descriptor, mode, nbytes):
    """Lock or unlock bytes. Each byte has a file of its own; the byte is locked as long as that file is."""
    first, status = os.lseek(descriptor, 0, os.SEEK_CUR), os.fstat(descriptor)
    if mode == 0:
        for offset in range(first, first + nbytes):
            os.close(_taken.pop((descriptor, offset)))
        return
    if any((descriptor, offset) in _taken for offset in range(first, first + nbytes)):
        raise PermissionError(errno.EACCES, "already locked through this handle")
    got = {}
    try:
        for offset in range(first, first + nbytes):
            path = f"{_FOLDER}/{status.st_dev}-{status.st_ino}-{offset}"
            got[descriptor, offset] = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            _real.flock(got[descriptor, offset], _real.LOCK_EX | _real.LOCK_NB)
    except BlockingIOError:
        for opened in got.values():
            os.close(opened)
        raise PermissionError(errno.EACCES, "Permission denied") from None
    _taken.update(got)


def _refusing_open_files(function):
    def guarded(path, *args, **options):
        is_checked = not os.path.basename(path).startswith("tmp")  # `tempfile` deletes its files differently on Windows
        for number in os.listdir("/proc/self/fd") if is_checked else ():
            try:
                is_open = os.path.samestat(os.stat(f"/proc/self/fd/{number}"), os.lstat(path))
            except OSError:
                continue
            if is_open:
                raise PermissionError(errno.EACCES, "the file is open, an error as on Windows", str(path))
        return function(path, *args, **options)

    return guarded


def _refusing_folders(function):
    def guarded(path, *args, **options):
        if not isinstance(path, int) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "the path is a folder, an error as on Windows", str(path))
        return function(path, *args, **options)

    return guarded


sys.meta_path.insert(0, _Missing())
for _name in ("fcntl", "termios", "resource"):
    sys.modules.pop(_name, None)
for _name in _POSIX_ONLY:
    delattr(os, _name)
for _name in ("rename", "replace", "unlink", "remove"):
    setattr(os, _name, _refusing_open_files(getattr(os, _name)))
shutil._use_fd_functions = False
os.open = _refusing_folders(os.open)
if _FOLDER is not None:
    sys.modules["msvcrt"] = types.ModuleType("msvcrt")
    sys.modules["msvcrt"].__dict__.update(LK_UNLCK=0, LK_NBLCK=2, locking=_locking)
