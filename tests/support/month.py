"""A month of nights from one seed: a scheduler loads some dozen tables each night, their extracts drift, and the platform has bad hours.

Each table is compared with the model of `support.table_model` after every push. The quota is counted where the platform counts it.
"""

import asyncio
import dataclasses
import datetime as dt
import random
import tempfile
from collections import Counter

import pyarrow as pa
from support.quotas import most_in_any_hour, most_in_any_second
from support.simulation import SCRATCH
from support.table_checks import Checker
from support.table_model import Extract, Step
from support.table_stage import MemoryStage, TablePlatform

from pushengine.errors import (
    ConnectionFailedError,
    OutcomeUnknownError,
    RateLimitedError,
    RequestTimeoutError,
    ServerError,
    SourceError,
)
from pushengine.testing import VirtualClock, run_in_virtual_time

DAY_SECONDS = 86_400.0
OUTAGE_SECONDS = 3 * 3600.0
SUBMITS_PER_HOUR = 25
MAX_RUNS = 30
IDEMPOTENT = ("get", "list", "list_chunks", "delete", "columns")

MODES = ("replace", "append", "upsert", "weekly replace, nightly upsert", "upsert, sometimes delete")
POLICIES = (
    {},
    {"drift": "freeze"},
    {"new_columns": "ignore"},
    {"new_columns": "refuse", "missing_columns": "refuse"},
    {"types": "refuse"},
    {"verified_new_columns": True},
    {"max_drop": 0.5, "min_rows": 3},
    {"duplicate_keys": "last", "verified_new_columns": True},
    {"missing_columns": "refuse", "verified_new_columns": True},
)
EVENTS = (
    "wider type",
    "narrower type",
    "longer text",
    "other kind of time",
    "new column",
    "column gone",
    "column renamed",
    "column renamed and declared",
    "other letter case",
    "other order",
    "empty column",
    "no rows",
    "no rows allowed",
    "0 bytes",
    "rows dropped",
    "equal keys",
    "key without value",
    "typed file",
    "column left out",
)
LASTING = ("wider type", "new column", "column gone", "column renamed", "other letter case", "typed file")


class BadPlatform(TablePlatform):
    """A platform with faults, a nightly rush and an outage.

    Attributes:
        submit_times: When submits arrived, seconds UTC.
        is_down: Whether the outage is on.
        fault: Probability of a fault of one call.
    """

    def __init__(self, clock, rng, *, fault, **options):
        super().__init__(clock, **options)
        self._rng, self.fault = rng, fault
        self.is_down = False
        self.submit_times = []
        self.faults = 0

    async def call(self, operation, job_id, effect):
        await asyncio.sleep(self._rng.expovariate(10))
        if self.is_down:
            raise ConnectionFailedError("refused")
        kind = (
            self._rng.choice(["refused", "500", "lost", "late 500", "429"]) if self._rng.random() < self.fault else ""
        )
        self.faults += bool(kind)
        is_idempotent = operation in IDEMPOTENT
        if kind == "refused":
            raise ConnectionFailedError("refused")
        if operation == "submit":
            self.submit_times.append(self.clock.now())
        if kind == "429":
            raise RateLimitedError("slow down", retry_after_seconds=5.0)
        unknown = None if is_idempotent else "outcome_unknown"
        if kind == "500":
            raise ServerError("bad gateway", status=502, disposition=unknown)
        result = await super().call(operation, job_id, effect)
        if kind == "late 500":
            raise ServerError("bad gateway", status=502, disposition=unknown)
        if kind == "lost":
            raise (
                RequestTimeoutError("no response", phase="read")
                if is_idempotent
                else OutcomeUnknownError("no response")
            )
        return result


@dataclasses.dataclass
class Feed:
    """The extracts of one table.

    Attributes:
        name: Name of the table.
        mode: How it is loaded; one of `MODES`.
        settings: Policy of the table.
        columns: Name -> kind of values, as the source has them now.
        healthy: The same before a lasting drift; whoever runs the source returns to it after two refusals.
        first_new: Number of the next key.
        refusals: Number of refused nights in a row.
        is_typed: Whether the source writes Parquet.
    """

    name: str
    mode: str
    settings: dict
    columns: dict
    healthy: dict = dataclasses.field(default_factory=dict)
    first_new: int = 0
    refusals: int = 0
    is_typed: bool = False


KINDS = ("number", "amount", "code", "text", "day", "time", "flag")
TYPES = {
    "number": pa.int64(),
    "amount": pa.float64(),
    "code": pa.string(),
    "text": pa.string(),
    "day": pa.date32(),
    "time": pa.timestamp("us"),
    "flag": pa.bool_(),
    "zoned": pa.timestamp("us", "UTC"),
    "long": pa.string(),
    "empty": pa.null(),
}
DAY = dt.date(2026, 1, 1)


def typed_value(rng, kind):  # noqa: PLR0911 - one line per kind
    moment = dt.datetime(2026, 1, 1) + dt.timedelta(seconds=rng.randrange(10**7))
    match kind:
        case "number":
            return rng.randrange(-1000, 10**6)
        case "amount":
            return rng.randrange(-(10**6), 10**6) / 100
        case "code":
            return f"{rng.randrange(10**5):06d}"
        case "text":
            return "".join(rng.choices("abc dé", k=rng.randrange(1, 30))).strip() or "x"
        case "long":
            return "y" * rng.randrange(100, 1500)
        case "day":
            return DAY + dt.timedelta(days=rng.randrange(300))
        case "time":
            return moment
        case "zoned":
            return moment.replace(tzinfo=dt.UTC)
        case "flag":
            return rng.random() < 0.5
    return None


def as_text(value):
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, dt.date) else str(value)


class Month:
    """A month from one seed.

    Args:
        seed: Determines everything.
        nights: Number of nights.
        tables: Number of tables.
        fault: Probability that something goes wrong with a call.
        is_over_at_problem: Whether the first night with a problem is the last one.

    Attributes:
        problems: One sentence for everything that must not be so.
        outcomes: (event, done or refused) -> how often.
    """

    def __init__(self, seed, *, nights=30, tables=40, fault=0.05, is_over_at_problem=False):
        self.rng = random.Random(seed)
        self.is_over_at_problem = is_over_at_problem
        self.nights, self.fault = nights, fault
        self.feeds = [self._feed(number) for number in range(tables)]
        self.problems = []
        self.outcomes = Counter()
        self.runs = 0
        self.platform = None
        self.checker = None

    def _feed(self, number):
        rng = self.rng
        columns = {f"C{index}": rng.choice(KINDS) for index in range(rng.randrange(3, 7))}
        mode = MODES[number % len(MODES)]
        return Feed(f"TABLE_{number}", mode, POLICIES[number % len(POLICIES)], columns)

    def run(self):
        """Run the whole month in virtual time, and return it."""
        run_in_virtual_time(self._run())
        return self

    async def _run(self):
        with tempfile.TemporaryDirectory(dir=SCRATCH) as folder:
            clock = VirtualClock()
            listing = self.rng.choice(["exact", "coarse", "denied"])
            self.platform = BadPlatform(clock, self.rng, fault=self.fault, listing=listing)
            settings = {"submits_per_hour": SUBMITS_PER_HOUR, "min_string_length": 20, "string_headroom": 2.0}
            stage = MemoryStage(folder, platform=self.platform, seed=self.rng.random(), **settings)
            self.checker = Checker(stage)
            try:
                for night in range(self.nights):
                    start = clock.monotonic()
                    await self._night(stage, night)
                    if self.problems and self.is_over_at_problem:
                        break
                    await asyncio.sleep(max(0.0, DAY_SECONDS - (clock.monotonic() - start)))
            finally:
                stage.close()

    async def _night(self, stage, night):
        process = stage.process()
        outage = None
        if night == self.nights // 2:
            outage = asyncio.create_task(self._outage())
        found = await asyncio.gather(*(self._load(stage, process, feed, night) for feed in self.feeds))
        if outage is not None:
            await outage
        self.problems += [f"night {night}: {problem}" for problems in found for problem in problems]
        self.problems += [f"night {night}: {problem}" for problem in stage.problems(may_leave_job=True)]

    async def _outage(self):
        await asyncio.sleep(20.0)
        self.platform.is_down = True
        await asyncio.sleep(OUTAGE_SECONDS)
        self.platform.is_down = False

    async def _load(self, stage, process, feed, night):
        """Load one table in one night, with as many runs of the command as it takes."""
        event, step = self._step(feed, night)
        spec = stage.write(step, f"{feed.name}-{night}")
        await asyncio.sleep(self.rng.uniform(0, 60))

        async def push():
            for run in range(MAX_RUNS):
                self.runs += 1
                outcome = await stage.push(step, spec, process if run == 0 else stage.process())
                if outcome.receipt or isinstance(outcome.error, SourceError):
                    break
                await asyncio.sleep(1800.0)  # the scheduler runs the command again
            return outcome

        problems = await self.checker.check(step, push)
        is_done = self.checker.last[feed.name.casefold()].receipt is not None
        self.outcomes[event, "done" if is_done else "refused"] += 1
        feed.refusals = 0 if is_done else feed.refusals + 1
        if feed.refusals == 2 and feed.healthy:
            feed.columns, feed.refusals, feed.is_typed = feed.healthy, 0, False
        return [f"{event}: {problem}" for problem in problems]

    # --- What the sources hold

    def _mode(self, feed, night):
        if feed.mode.startswith("weekly"):
            return "replace" if night % 7 == 0 else "upsert"
        if feed.mode.endswith("delete"):
            return "delete" if night % 5 == 4 else "upsert"
        return feed.mode

    def _step(self, feed, night):  # noqa: PLR0912 - one branch per event
        """Return tonight's event and push of a table."""
        rng = self.rng
        mode = self._mode(feed, night)
        event = "" if night == 0 or rng.random() < 0.4 else rng.choice(EVENTS)
        columns = dict(feed.columns)
        old = rng.choice(sorted(columns))
        options = {}
        match event:
            case "wider type":
                columns[old] = {"number": "amount", "amount": "code", "flag": "text", "day": "time"}.get(
                    columns[old], "text"
                )
            case "narrower type":
                columns[old] = {"code": "number", "text": "number", "amount": "number"}.get(columns[old], columns[old])
            case "longer text":
                columns[old] = "long"
            case "other kind of time":
                columns[old] = "zoned"
            case "new column":
                columns[f"NEW{night}"] = rng.choice(KINDS)
            case "column gone" if len(columns) > 1:
                del columns[old]
            case "column renamed" | "column renamed and declared":
                columns = {f"{name}_{night}" if name == old else name: kind for name, kind in columns.items()}
                if event.endswith("declared"):
                    options["rename"] = {f"{old}_{night}": old}
            case "other letter case":
                columns = {name.swapcase(): kind for name, kind in columns.items()}
            case "other order":
                columns = dict(reversed(columns.items()))
            case "empty column":
                columns[old] = "empty"
            case "column left out":
                options["exclude"] = (old,)
        is_typed = feed.is_typed or event == "typed file"
        if event in LASTING:
            feed.healthy, feed.columns, feed.is_typed = feed.columns, columns, is_typed
        count = {"no rows": 0, "no rows allowed": 0, "0 bytes": 0, "rows dropped": 2}.get(event, rng.randrange(8, 16))
        options["allow_empty"] = event == "no rows allowed"
        keys = ("ID",) if mode in ("upsert", "delete") else ()
        extract = self._extract(feed, event, columns, count, is_typed=is_typed)
        return event, Step(feed.name, mode, extract, keys, settings=feed.settings, **options)

    def _extract(self, feed, event, columns, count, *, is_typed):
        if event == "0 bytes":
            return Extract("csv", (), ())
        rng = self.rng
        first = max(0, feed.first_new - rng.randrange(6))  # some rows change, others are new
        keys = list(range(first, first + count))
        feed.first_new = first + count
        if event == "equal keys" and count:
            keys[-1] = keys[0]
        if event == "key without value" and count:
            keys[count // 2] = None
        kinds = {"ID": "number", **columns}
        cells = [keys, *([typed_value(rng, kind) for _ in keys] for kind in columns.values())]
        rows = tuple(zip(*cells, strict=True)) if count else ()
        if is_typed:
            return Extract("parquet", tuple(kinds), rows, tuple(TYPES[kind] for kind in kinds.values()))
        return Extract("csv", tuple(kinds), tuple(tuple(map(as_text, row)) for row in rows))

    # --- What must hold at the end

    def quota_problems(self):
        times = self.platform.submit_times
        found = []
        if most_in_any_second(times) > 10:
            found.append("more submits than the quota per second")
        if most_in_any_hour(times) > SUBMITS_PER_HOUR:
            found.append("more submits than the quota per hour")
        return found
