"""Models of links and servers in virtual time, and uploads over them with a fixed limit or with the controller's limit.

Bytes flow continuously. Each upload is limited to its connection's rate. Together they are limited to the link's rate, which they share
evenly. Time jumps from event to event, so minutes on a link take milliseconds. Units are MB and seconds.
"""

import dataclasses
import itertools
import math
import random
from collections.abc import Callable

from pushengine.pipeline.concurrency import ConcurrencyController

MB = 1_000_000


@dataclasses.dataclass(frozen=True)
class Link:
    """A path to a server.

    Attributes:
        chunk: MB of the next chunk.
        connection: MB/s of one connection that starts an upload at a given time.
        total: MB/s of all uploads together, given the time and the number of uploads under way.
        rtt: Round-trip seconds. Half of them pass before the body is sent, the other half before the response arrives.
        producer: MB/s that reading and encoding produce.
        refuse_above: While this many uploads are under way, a new one is rejected with 429.
        stall_above: While this many uploads are under way, a new one stalls for `stall_seconds` and is then abandoned.
        stall_seconds: How long a stalled upload waits before it is abandoned.
        changes_at: Times at which rates change.
    """

    chunk: Callable[[random.Random], float] = lambda rng: rng.uniform(7.0, 9.0)
    connection: Callable[[float, random.Random], float] = lambda now, rng: 10.0
    total: Callable[[float, int], float] = lambda now, uploads: 100.0
    rtt: float = 0.1
    producer: float = math.inf
    refuse_above: int = 1000
    stall_above: int = 1000
    stall_seconds: float = 20.0
    changes_at: tuple[float, ...] = ()


class FixedLimit:
    """A replacement for the controller whose limit never changes."""

    def __init__(self, limit):
        self.limit = limit

    def started(self, nbytes, now):
        return None

    def ended(self, attempt, now, outcome):
        return None


@dataclasses.dataclass(eq=False)
class _Upload:
    limiter: object
    size: float
    handle: object = None
    left: float = 0.0
    rate: float = 0.0
    flow: float = 0.0
    phase: str = "opening"  # opening, body, response, stalled, pausing
    until: float = 0.0
    attempts: int = 0


@dataclasses.dataclass
class Run:
    """The result of a simulation: MB per second, times of attempts and rejections, limits with their times, and MB per push."""

    mb: list[float]
    attempts: list[float]
    refusals: list[float]
    limits: list[tuple[float, int]]
    changes: list[tuple[float, object]]
    mb_of: list[float]

    def goodput(self, start, end):
        """Return the MB/s between two points in time."""
        return sum(self.mb[start:end]) / (end - start)

    def refused_share(self, start, end):
        attempts = sum(start <= at < end for at in self.attempts)
        return sum(start <= at < end for at in self.refusals) / max(attempts, 1)

    def limit_between(self, start, end):
        """Return the mean limit, weighted by time."""
        total = 0.0
        for (at, limit), (following, _) in itertools.pairwise([*self.limits, (math.inf, 0)]):
            total += limit * max(min(following, end) - max(at, start), 0.0)
        return total / (end - start)


def upload_over(link, *limiters, seconds, seed=0):
    """Upload chunks over the link for `seconds`, in one concurrent push per limiter. The result has the limits of the first limiter."""
    return _Simulation(link, limiters, seconds, seed).run()


class _Simulation:
    def __init__(self, link, limiters, seconds, seed):
        self.link, self.limiters, self.seconds = link, limiters, seconds
        self.rng = random.Random(seed)
        self.now = 0.0
        self.produced = 0.0
        self.waiting = link.chunk(self.rng)
        self.sending = []
        self.result = Run([0.0] * (seconds + 1), [], [], [(0.0, limiters[0].limit)], [], [0.0] * len(limiters))
        self.changes_at = sorted(link.changes_at)

    def run(self):
        while self.now < self.seconds:
            self.start_due_uploads()
            self.share_out()
            self.advance(min(self.next_event_times()))
            for upload in list(self.sending):
                self.step(upload)
        return self.result

    def start_due_uploads(self):
        for limiter in self.limiters:
            while self.has_capacity(limiter) and self.produced_until(self.waiting) <= self.now:
                self.produced += self.waiting
                upload = _Upload(limiter, self.waiting)
                self.waiting = self.link.chunk(self.rng)
                self.sending.append(upload)
                self.attempt(upload)

    def has_capacity(self, limiter):
        return sum(one.limiter is limiter for one in self.sending) < limiter.limit

    def produced_until(self, size):
        return (self.produced + size) / self.link.producer

    def attempt(self, upload):
        upload.attempts += 1
        upload.handle = upload.limiter.started(int(upload.size * MB), self.now)
        upload.phase, upload.until = "opening", self.now + self.link.rtt / 2
        self.result.attempts.append(self.now)

    def share_out(self):
        bodies = sorted((one for one in self.sending if one.phase == "body"), key=lambda one: one.rate)
        left = self.link.total(self.now, len(self.sending))
        for number, upload in enumerate(bodies):
            upload.flow = min(upload.rate, left / (len(bodies) - number))
            left -= upload.flow

    def next_event_times(self):
        yield self.seconds
        yield math.floor(self.now) + 1.0
        yield from (at for at in self.changes_at if at > self.now)
        if any(self.has_capacity(limiter) for limiter in self.limiters):
            yield max(self.produced_until(self.waiting), self.now + 1e-9)
        for one in self.sending:
            yield self.now + one.left / one.flow if one.phase == "body" else one.until

    def advance(self, until):
        for one in self.sending:
            if one.phase == "body":
                moved = one.flow * (until - self.now)
                one.left -= moved
                self.result.mb[int(self.now)] += moved
        self.now = until

    def step(self, upload):
        """Move the upload to its next phase if that is due now."""
        if upload.phase == "body":
            if upload.left <= 1e-9:
                upload.phase, upload.until = "response", self.now + self.link.rtt / 2
        elif upload.until <= self.now + 1e-12:
            getattr(self, upload.phase)(upload)

    def served(self):
        return sum(one.phase in ("body", "response") for one in self.sending)

    def opening(self, upload):
        if self.served() >= self.link.refuse_above:
            self.refuse(upload)
        elif self.served() >= self.link.stall_above:
            upload.phase, upload.until = "stalled", self.now + self.link.stall_seconds
        else:
            upload.left, upload.rate = upload.size, self.link.connection(self.now, self.rng)
            upload.phase = "body"

    def refuse(self, upload):
        self.result.refusals.append(self.now)
        self.note(upload, upload.limiter.ended(upload.handle, self.now, "refused"))
        wait = self.rng.uniform(0, min(30.0, 0.5 * 2 ** (upload.attempts - 1)))
        upload.phase, upload.until = "pausing", self.now + wait

    stalled = refuse

    def pausing(self, upload):
        self.attempt(upload)

    def response(self, upload):
        self.sending.remove(upload)
        self.result.mb_of[self.limiters.index(upload.limiter)] += upload.size
        self.note(upload, upload.limiter.ended(upload.handle, self.now, "acknowledged"))

    def note(self, upload, change):
        if change is not None and upload.limiter is self.limiters[0]:
            self.result.limits.append((self.now, change.after))
            self.result.changes.append((self.now, change))


def _knee(now, uploads):
    return 100.0 if uploads <= 8 else max(100.0 - 8.0 * (uploads - 8), 20.0)


def _noisy(low, high):
    return lambda now, rng: rng.uniform(low, high)


LINKS = {
    "capped link, 10 MB/s per connection": Link(),
    "a link between two limits": Link(total=lambda now, uploads: 90.0),
    "one fast connection saturates": Link(connection=lambda now, rng: 100.0),
    "connections alone limit": Link(total=lambda now, uploads: 1000.0),
    "jitter": Link(connection=_noisy(4.0, 16.0), chunk=lambda rng: rng.uniform(2.0, 12.0)),
    "a knee, more connections carry less": Link(total=_knee, connection=lambda now, rng: 20.0),
    "refuses above 6": Link(refuse_above=6),
    "refuses above 2": Link(refuse_above=2),
    "stalls above 6": Link(stall_above=6),
    "slow producer": Link(producer=35.0),
    "producer just above the start": Link(producer=55.0),
    "tiny chunks": Link(chunk=lambda rng: 0.064),
    "huge chunks": Link(chunk=lambda rng: rng.choice([64.0, 128.0, 256.0])),
    "chunks of 256 MB": Link(chunk=lambda rng: 256.0),
    "very long round trip": Link(rtt=2.0),
    "link gets faster": Link(total=lambda now, uploads: 40.0 if now < 60 else 120.0, changes_at=(60.0,)),
    "link gets slower": Link(total=lambda now, uploads: 120.0 if now < 60 else 40.0, changes_at=(60.0,)),
    "connections get slower": Link(connection=lambda now, rng: 20.0 if now < 60 else 7.0, changes_at=(60.0,)),
    "lossy, one in ten crawls": Link(connection=lambda now, rng: 1.0 if rng.random() < 0.1 else rng.uniform(6.0, 12.0)),
}


def controller(highest=16, lowest=1):
    return ConcurrencyController(lowest=lowest, highest=highest)
