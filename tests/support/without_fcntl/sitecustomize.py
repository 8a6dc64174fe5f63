"""Makes a Python of this system one without `fcntl` and other names of POSIX: for processes that are started with this folder in PYTHONPATH.

In place of `fcntl` they get an `msvcrt` with `locking()`, as Windows has it: ranges of bytes, never shared, given back with the process;
files that are open can be neither renamed nor deleted, and folders cannot be opened. LOCKED_BYTES names a folder to keep account of them in;
without it there is no `msvcrt` either.
"""

import asyncio  # noqa: F401 - on this system it needs fcntl itself
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
            raise ModuleNotFoundError("as on a system without it", name=fullname)


def _locking(descriptor, mode, nbytes):
    """One file for each byte: it is locked as long as a byte of that file is."""
    first, status = os.lseek(descriptor, 0, os.SEEK_CUR), os.fstat(descriptor)
    if mode == 0:
        for offset in range(first, first + nbytes):
            os.close(_taken.pop((descriptor, offset)))
        return
    if any((descriptor, offset) in _taken for offset in range(first, first + nbytes)):
        raise PermissionError(errno.EACCES, "locked by this very handle")
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
        is_ours = not os.path.basename(path).startswith("tmp")  # `tempfile` has a way of its own on Windows
        for number in os.listdir("/proc/self/fd") if is_ours else ():
            try:
                is_open = os.path.samestat(os.stat(f"/proc/self/fd/{number}"), os.lstat(path))
            except OSError:
                continue
            if is_open:
                raise PermissionError(errno.EACCES, "it is open, as Windows would say", str(path))
        return function(path, *args, **options)

    return guarded


def _refusing_folders(function):
    def guarded(path, *args, **options):
        if not isinstance(path, int) and os.path.isdir(path):
            raise PermissionError(errno.EACCES, "a folder, as Windows would say", str(path))
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
