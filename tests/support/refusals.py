"""An operating system that refuses one path: every call of Python that opens, creates or inspects it fails with an error number."""

import builtins
import contextlib
import errno
import io
import os
from unittest import mock

_CALLS = ((os, "open"), (os, "stat"), (os, "lstat"), (os, "mkdir"), (os, "scandir"), (os, "replace"), (io, "open"))
WRITE_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG})
"""Errors that only calls that write raise."""


@contextlib.contextmanager
def refusing(fragment, number):
    """Refuse every path that contains the fragment.

    Args:
        fragment: Part of the path.
        number: The error, from `errno`.
    """
    with contextlib.ExitStack() as stack:
        for module, name in (*_CALLS, (builtins, "open")):
            stack.enter_context(mock.patch.object(module, name, _refusing(getattr(module, name), fragment, number)))
        yield


def _refusing(call, fragment, number):
    def refused(path, *arguments, **options):
        if _is_named(path, fragment) and (number not in WRITE_ERRORS or _is_write(call, arguments, options)):
            raise OSError(number, os.strerror(number), os.fspath(path))
        return call(path, *arguments, **options)

    return refused


def _is_named(path, fragment):
    return not isinstance(path, int) and fragment in os.fsdecode(path)


def _is_write(call, arguments, options):
    if call.__name__ in ("mkdir", "replace"):
        return True
    mode = arguments[0] if arguments else options.get("mode", options.get("flags", 0))
    return mode & (os.O_WRONLY | os.O_RDWR) if isinstance(mode, int) else bool(set(mode) & set("wxa+"))
