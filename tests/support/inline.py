"""Replacements that run on the event loop what the engine runs on threads."""

import random

from pushengine.quota.limiter import SubmitLimiter
from pushengine.quota.server_clock import ServerClock


async def inline(function, /, *args, **kwargs):
    return function(*args, **kwargs)


def limiter_on(ledger, clock, *, server_clock=None, rng=None):
    """Return a limiter for the team `acme`."""
    return SubmitLimiter(
        ledger,
        team="acme",
        server_clock=server_clock or ServerClock(clock),
        clock=clock,
        off_loop=inline,
        rng=rng or random.Random(1),
    )
