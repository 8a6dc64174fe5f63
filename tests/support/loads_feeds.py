"""What the sources of a month of nights deliver, and what must become of it: independent of the engine.

A feed is the folder entry of one table. Each content of a file has a name, which each of its rows has in the column SRC. What has to be
loaded next follows from the files that are there and from what the platform has loaded, by the words of the contract.
"""

import collections
import dataclasses
import datetime as dt

DAY_SECONDS = 86_400.0
EPOCH = dt.datetime(2026, 1, 5, tzinfo=dt.UTC).timestamp()
INITIAL_IDS = 400
KEPT_NIGHTS = 6
EVENTS = {
    "full": ("late", "missing", "twice", "bad", "half-written", "rewritten", "new column", "wider type"),
    "changes": ("late", "missing", "twice", "bad", "wrong type", "new column", "rewritten"),
    "events": ("late", "missing", "twice", "renamed", "grown", "bad", "half-written", "new column"),
    "gone": ("late", "missing", "bad"),
}
"""What may happen to a feed in one night."""


@dataclasses.dataclass(eq=False)
class Content:
    """What one file holds.

    Attributes:
        src: Its name, which no other content has.
        order: Day and number of its generation.
        rows: Its rows: case-folded column -> text.
        is_bad: Whether it can not be loaded.
        arrived_at: When its file appeared, seconds UTC.
        text: The whole file.
    """

    src: str
    order: tuple
    rows: list
    is_bad: bool
    arrived_at: float
    text: str


@dataclasses.dataclass
class NightTable:
    """What the journal remembers of a load: paths that are loaded, paths that block, and its last generation."""

    loaded: set
    blocked: set
    last: object


def plain(value):
    """Return a value so that `1`, `1.0` and the text `1` are equal."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return value


def is_equal(found, expected):
    """Whether two lists have the same rows; a column without a value is as good as none."""
    both = [
        collections.Counter(
            frozenset((name, plain(value)) for name, value in row.items() if value is not None) for row in rows
        )
        for rows in (found, expected)
    ]
    return both[0] == both[1]


def feeds_of(folder, count, rng):
    """Return the feeds of so many tables, in the four modes."""
    feeds = []
    for number in range(count):
        rule = ("full", "changes", "full", "events", "changes", "full", "events", "full", "gone", "changes")[
            number % 10
        ]
        feeds.append(Feed(f"{rule.upper()}_{number}", rule, folder / rule, rng))
    return feeds


class Feed:
    """The files of one table.

    Args:
        name: The table.
        rule: Name of its rule: `full`, `changes`, `events` or `gone`.
        folder: Where its files are.
        rng: Random numbers.
    """

    def __init__(self, name, rule, folder, rng):
        self.name, self.rule, self.folder, self.rng = name, rule, folder, rng
        folder.mkdir(parents=True, exist_ok=True)
        self.here = {}
        """Path -> content of the files that are there."""
        self.known = {}
        """Name -> every content that was ever delivered."""
        self.changed = {}
        """Path -> names of the contents that it had before the present one."""
        self.copied = set()
        """Names of contents that have been under two paths."""
        self.columns, self.stage, self.first_id, self.gone = [], 0, 0, 0
        self._late, self._repairs, self._completed = [], [], []
        self._made = 0
        self.src_of_deleted = {}
        self.last_event = ""

    # --- Deliveries

    def deliver(self, night, *, is_healthy=False):  # noqa: PLR0912 - one branch per event
        """Write tonight's files, mend those of last night, and remove old ones."""
        rng, at = self.rng, EPOCH + night * DAY_SECONDS
        for path in self._repairs:
            if path in self.here:
                self._write(path, self._content(night, self.here[path].order, at))
        for path in self._completed:
            if path in self.here:
                content = self.here.pop(path)
                path.rename(path.with_suffix(""))
                self.here[path.with_suffix("")] = dataclasses.replace(content)
                self.known[content.src] = self.here[path.with_suffix("")]
        self._repairs, self._completed = [], []
        for path in [path for path, one in self.here.items() if one.order[0] < night - KEPT_NIGHTS]:
            path.unlink()
            del self.here[path]
            self.changed.pop(path, None)
        event = "" if night == 0 or is_healthy or rng.random() < 0.6 else rng.choice(EVENTS[self.rule])
        self.last_event = event
        if event == "missing":
            return
        if event == "new column":
            self.columns.append(f"N{night}")
        if event == "wider type":
            self.stage += 1
        old = next(reversed(self.here.items()), None) if self.here else None
        if event == "twice" and self._deliver_again(night, at):
            return
        if event == "renamed" and old is not None and old[0].suffix == ".csv":
            path = self.folder / f"{self.name}-again{night}.csv"
            old[0].rename(path)
            self.copied.add(old[1].src)
            self.here[path] = self.here.pop(old[0])
        if event in ("grown", "rewritten") and old is not None and not old[1].is_bad and old[0].suffix == ".csv":
            path, content = old
            self._write(path, self._content(night, content.order, at))
            self.changed.setdefault(path, set()).add(content.src)
        deliver = lambda: self._deliver_new(night, event)  # noqa: E731
        if event == "late":
            self._late.append(deliver)
        else:
            deliver()

    def _deliver_again(self, night, at):
        """Write the newest generation once more, under tonight's names; return whether there was one."""
        newest = max((one.order for one in self.here.values()), default=None)
        again = [one for one in self.here.values() if one.order == newest]
        if not again or any(one.is_bad for one in again) or any(path.suffix != ".csv" for path in self.here):
            return False
        order = (night, 1) if self.rule == "changes" else (night, 0)
        for number, one in enumerate(again, 1):
            self.copied.add(one.src)
            self._write(self._path(night, number), dataclasses.replace(one, order=order, arrived_at=at))
        return True

    def deliver_late(self):
        """Write the files that are late."""
        for deliver in self._late:
            deliver()
        self._late = []

    def _deliver_new(self, night, event):
        at = EPOCH + night * DAY_SECONDS + (4.2 * 3600 if event == "late" else 0.0)
        count = self.rng.choice([1, 1, 2, 3]) if self.rule != "gone" else 1
        for number in range(1, count + 1):
            is_odd = number == self.rng.randrange(1, count + 1)
            kind = event if event in ("bad", "wrong type") and (is_odd or number == 1) else ""
            order = (night, number) if self.rule == "changes" else (night, 0)
            path = self._path(night, number)
            if event == "half-written" and number == count:
                path = path.with_name(f"{path.name}.part")
                self._completed.append(path)
            self._write(path, self._content(night, order, at, kind))
            if kind:
                self._repairs.append(path)

    def _path(self, night, number):
        day = dt.datetime.fromtimestamp(EPOCH, dt.UTC) + dt.timedelta(days=night)
        if self.rule == "full":
            return self.folder / f"{self.name}_{day:%Y%m%d}_{number}.csv"
        if self.rule == "changes":
            return self.folder / f"{self.name}_{day:%Y%m%d}_{number}.csv"
        if self.rule == "events":
            return self.folder / f"{self.name}-{day:%m%d}x{number}.csv"
        return self.folder / f"{self.name}_{day:%Y%m%d}.csv"

    def _content(self, night, order, at, kind=""):
        rng = self.rng
        self._made += 1
        src = f"{self.name}/{night}/{self._made}"
        count = rng.randrange(2, 7)
        if self.rule == "gone":
            ids = range(self.gone, self.gone + count)
            self.gone += count
        else:
            first = max(0, self.first_id - (rng.randrange(4) if self.rule == "changes" else 0))
            ids = range(first, first + count)
            self.first_id = first + count
        rows = []
        for number in ids:
            value = (f"{rng.randrange(1000)}", f"{rng.randrange(1000)}.5", f"v{rng.randrange(1000)}")[
                min(self.stage, 2)
            ]
            row = {"ID": str(number), "SRC": src, "V": f"v{value}" if kind == "wrong type" else value}
            rows.append(row | {name: f"{name} of {number}" for name in self.columns})
        lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
        if kind == "bad":
            lines[-1] = lines[-1].rsplit(",", 1)[0]
        text = "\n".join(lines) + "\n"
        content = Content(src, order, [{k.casefold(): v for k, v in row.items()} for row in rows], bool(kind), at, text)
        self.known[src] = content
        for number in ids if self.rule == "gone" else ():
            self.src_of_deleted[self.name.casefold(), str(number)] = src
        return content

    def _write(self, path, content):
        path.write_text(content.text)
        self.here.pop(path, None)
        self.here[path] = content

    # --- What the loads of the platform mean

    def rows_after(self, loads):
        """Return the rows of the table after jobs with these contents, in this order."""
        rows = {}
        if self.rule == "gone":
            rows = {str(n): {"id": n, "src": "by hand", "v": n} for n in range(INITIAL_IDS)}
        for number, job in enumerate(loads):
            if self.rule == "full":
                rows = {}
            for src in job:
                for position, row in enumerate(self.known[src].rows):
                    key = row["id"] if self.rule in ("changes", "gone") else (number, src, position)
                    if self.rule == "gone":
                        rows.pop(key, None)
                    elif self.rule == "changes":
                        rows[key] = row  # columns that a file lacks become NULL
                    else:
                        rows[key] = row
        return list(rows.values())

    def problems_of(self, loads):
        """Yield what is wrong with the contents of the jobs that were DONE."""
        counts = collections.Counter(src for job in loads for src in job)
        if twice := [src for src, count in counts.items() if count > 1]:
            yield f"loaded twice: {twice}"
        orders = []
        for job in loads:
            for src, count in job.items():
                content = self.known[src]
                if content.is_bad:
                    yield f"{src} cannot be loaded, and was"
                if count != len(content.rows):
                    yield f"{count} rows of the {len(content.rows)} of {src} were loaded"
            orders.append({self.known[src].order for src in job})
        if self.rule != "events":
            if mixed := [one for one in orders if len(one) > 1]:
                yield f"one push has the generations {mixed}"
            flat = [max(one) for one in orders]
            if flat != sorted(flat):
                yield f"generations were loaded in the order {flat}"

    def problems_of_memory(self, table, loads):
        """Yield what the journal remembers wrongly of this load."""
        names = {src for job in loads for src in job}
        expected = {
            str(path) for path, one in self.here.items() if one.src in names - self.copied and path not in self.changed
        }
        missing = expected - table.loaded
        if missing:
            yield f"the journal does not know that {missing} were loaded"
        for path in table.loaded:
            content = next((one for here, one in self.here.items() if str(here) == path), None)
            if content is not None and content.src not in names and not any(str(here) == path for here in self.changed):
                yield f"the journal says that {path} was loaded, and it was not"
        if loads and table.last is None:
            yield "the journal does not know that the table was loaded"
        for path in table.blocked:
            content = next((one for here, one in self.here.items() if str(here) == path), None)
            if content is not None and content.src in names:
                yield f"{path} is loaded, and blocks"

    # --- What the next run must do

    def expectation(self, loads, now):
        """Return what a run that starts now must do with the files that are there."""
        names = {src for job in loads for src in job}
        complete = {path: one for path, one in self.here.items() if path.suffix == ".csv"}
        held = {one.order for path, one in self.here.items() if path.suffix != ".csv"}
        expected = Expectation(self, names, now)
        if self.rule == "full":
            self._expect_full(expected, {p: one for p, one in complete.items() if one.order not in held}, loads)
        elif self.rule == "events":
            self._expect_events(expected, complete)
        else:
            self._expect_changes(expected, complete, loads)
        return expected

    def _expect_full(self, expected, complete, loads):
        orders = [one.order for one in complete.values()]
        last = max((self.known[src].order for job in loads for src in job), default=None)
        expected.newest = max([*orders, *([last] if last else [])], default=None)
        if not orders or (last is not None and max(orders) < last):
            return
        newest = [one for one in complete.values() if one.order == max(orders)]
        if any(one.is_bad for one in newest):
            expected.failed = True
        elif not loads or {one.src for one in newest} != set(loads[-1]):
            expected.load = [{one.src for one in newest}]

    def _expect_events(self, expected, complete):
        pending = {}
        for path, one in complete.items():
            if one.src in expected.names or one.src in pending:
                continue
            if self.changed.get(path, set()) & expected.names:
                expected.failed = True  # refused as grown
            else:
                pending[one.src] = one
        # All new files are one push, so they must have the same columns.
        if any(one.is_bad for one in pending.values()) or len({tuple(one.rows[0]) for one in pending.values()}) > 1:
            expected.failed = True
        elif pending:
            expected.load = [set(pending)]
        # A file that is refused as grown came when what is loaded of it came.
        for path, one in complete.items():
            loaded = [self.known[src].arrived_at for src in self.changed.get(path, set()) & expected.names]
            expected.arrivals.append(max(loaded) if loaded and one.src not in expected.names else one.arrived_at)

    def _expect_changes(self, expected, complete, loads):
        last = max((self.known[src].order for job in loads for src in job), default=None)
        orders = [one.order for one in complete.values()]
        expected.newest = max([*orders, *([last] if last else [])], default=None)
        pending = {}
        for one in complete.values():
            if one.src not in expected.names:
                pending.setdefault(one.order, one)
        for order, one in sorted(pending.items()):
            if last is not None and order < last:
                expected.failed = True  # refused: it would overwrite newer values
            elif expected.stopped:
                expected.blocked = True
            elif one.is_bad:
                expected.failed = expected.stopped = True
            else:
                expected.load.append({one.src})

    def left_over(self, loads):
        """Yield what must have been loaded by the end of the month, and is not."""
        expected = self.expectation(loads, 0.0)
        if expected.load:
            yield f"not loaded at the end: {expected.load}"
        if self.rule in ("full", "gone", "changes") and expected.newest and not expected.failed:
            newest = {
                one.src for path, one in self.here.items() if one.order == expected.newest and path.suffix == ".csv"
            }
            if newest and not newest <= {src for job in loads for src in job}:
                yield f"the newest generation {newest} is not loaded at the end"


@dataclasses.dataclass
class Expectation:
    """What one run must do with one load.

    Attributes:
        names: Contents that were loaded before.
        now: Start of the run, seconds UTC.
        load: The contents of each push, in order.
        failed: Whether something has to be told as failed.
        blocked: Whether something has to be told as blocked.
        newest: The newest generation, as far as there are dates.
        arrivals: When the files came, where there are no dates.
    """

    feed: Feed
    names: set
    now: float
    load: list = dataclasses.field(default_factory=list)
    failed: bool = False
    blocked: bool = False
    stopped: bool = False
    newest: tuple | None = None
    arrivals: list = dataclasses.field(default_factory=list)

    def problems(self, rows, loads, *, was_continued, is_after_kill):
        """Yield how the outcome of a run differs."""
        states = [row.state for row in rows]
        shown = f"expected {self}, found {[(row.generation, row.state, row.reason) for row in rows]}"
        new = [set(job) for job in loads]
        now = {src for job in new for src in job}
        if wanting := [job for job in self.load if not job <= now]:
            if was_continued and (not rows or self.feed.rule == "events"):
                return  # it pushes the files as recorded
            yield f"{wanting} not loaded; {shown}"
        if self.load and "missing" in states and self._is_missing() is False:
            yield f"missing was told although it was loaded; {shown}"
        if was_continued:
            return  # what was over before the run was continued is not told again
        if extra := now - self.names - {src for job in self.load for src in job}:
            yield f"{extra} loaded; {shown}"
        if is_after_kill:
            return  # pushes of the killed run were brought to their end first, so that there was less to do
        if self.failed != ("failed" in states):
            yield f"failed was told: {'failed' in states}; {shown}"
        if self.blocked and "blocked" not in states:
            yield f"blocked was not told; {shown}"
        is_settled = any(
            row.reason.startswith("loaded by push") for row in rows
        )  # the push of a killed run was ended first
        if self.load and "done" not in states and not is_settled:
            yield f"done was not told; {shown}"
        is_missing = self._is_missing()
        if is_missing is not None and is_missing != ("missing" in states):
            yield f"missing was told: {'missing' in states}; {shown}"

    def __str__(self):
        told = [name for name in ("failed", "blocked") if getattr(self, name)]
        return f"{self.load} {told} newest {self.newest}"

    def _is_missing(self):
        """Whether the load counts as missing; None if that is not clear."""
        if self.feed.rule == "events":
            if not self.arrivals:
                return None
            age = self.now - max(self.arrivals)
            return None if 20 * 3600 < age < 36 * 3600 or age > 3 * DAY_SECONDS else age > 23 * 3600
        if self.newest is None:
            return None
        return self.now - (EPOCH + self.newest[0] * DAY_SECONDS) > 25 * 3600
