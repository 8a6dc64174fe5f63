"""Reading a list that the platform sent, without a server."""

import functools

from pushengine.celonis.lists import ListReader


def read_list(body, parse, *, limit=None, max_kept_bytes=2**30, pieces=(), **options):
    """Return what is kept of a list; `pieces` are the offsets at which the body is cut."""
    reader = ListReader(
        functools.partial(parse, operation="list", **options), "list", max_kept_bytes=max_kept_bytes, limit=limit
    )
    for start, end in zip([0, *pieces], [*pieces, len(body)], strict=True):
        if not reader.feed(body[start:end]):
            break
    return reader.finish()
