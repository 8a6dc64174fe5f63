"""The engine against the emulator over real HTTP: a stage per test, rows to push, and queries for what arrived."""

import asyncio
import contextlib
import csv
import datetime as dt
import functools
import random
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from support.command_line import CommandLine
from support.nights import Nights

from pushengine import EngineSettings, PushEngine, UserApiKey
from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.runtime.clock import SystemClock
from pushengine.runtime.files import LocalFileSystem
from pushengine.runtime.runtime import Runtime
from pushengine.runtime.threads import ThreadWorkers
from pushengine.testing import RecordingSink

POOL = "pool-1"
CASES = Path(__file__).parent / "cases"


class QuickClock(SystemClock):
    """A clock for engines and emulators: always far from a full hour, and every sleep is short, as for retries and polls."""

    _to_ten_past = 600.0 - SystemClock().now() % 3600.0

    def now(self):
        return super().now() + self._to_ten_past

    async def sleep(self, seconds):
        await asyncio.sleep(min(seconds, 0.005))


class Stage:
    """One emulator and the engines that push to it."""

    def __init__(self, emulator, folder, stack):
        self.emulator = emulator
        self.folder = folder
        self.stack = stack
        self.sink = RecordingSink()
        self.engine = None

    async def open_engine(
        self, *, auth=None, url=None, pool_id=POOL, clock=None, state_dir=None, filesystem=None, **settings
    ):
        encoders = ThreadPoolExecutor(2, thread_name_prefix="test-encode")
        self.stack.callback(encoders.shutdown)
        runtime = Runtime(
            clock=clock or QuickClock(),
            rng=random.Random(),  # push ids of two engines must differ
            filesystem=filesystem or LocalFileSystem(),
            off_loop=asyncio.to_thread,
            new_workers=functools.partial(ThreadWorkers, encoders),
        )
        engine = PushEngine(
            url or self.emulator.url,
            pool_id=pool_id,
            auth=auth or UserApiKey("test-key"),
            settings=EngineSettings(**settings),
            state_dir=state_dir or self.folder / "state",
            sinks=[self.sink],
            runtime=runtime,
        )
        return await self.stack.enter_async_context(engine)

    async def push(self, source, **options):
        return await self.engine.push(source, **({"table": "T"} | options))

    async def query(self, sql):
        return await self.emulator.query(sql)

    async def rows(self, table="T", columns="*", order="1"):
        """Return the rows of the table without the column that the platform adds."""
        chosen = "* exclude (_CELONIS_CHANGE_DATE)" if columns == "*" else columns
        return await self.query(f'select {chosen} from "{table}" order by {order}')

    def jobs(self, status=None):
        found = list(self.emulator.service.jobs.values())
        return [job for job in found if status is None or job.status == status]

    def names(self):
        return [event.name for event in self.sink.events]


@pytest.fixture
async def start(tmp_path):
    """Return a function that starts stages: `stage = await start(emulator=dict(checksum="sha1"), chunk_bytes=64 * 1024)`."""
    stages = []
    async with contextlib.AsyncExitStack() as stack:

        async def _start(*, emulator=None, database=None, auth=None, clock=None, pool_id=POOL, **settings):
            options = {"queue_seconds": 0.0, "run_seconds": 0.0, "now": QuickClock().now} | (emulator or {})
            running = await stack.enter_async_context(Emulator(database, settings=EmulatorSettings(**options)))
            stage = Stage(running, tmp_path, stack)
            stages.append(stage)
            stage.engine = await stage.open_engine(auth=auth, clock=clock, pool_id=pool_id, **settings)
            return stage

        yield _start
    for event in (event for stage in stages for event in stage.sink.events):
        assert event.pool, event
        assert event.table if event.push_id else not event.table, event
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("pushengine-read")] == []


@pytest.fixture
async def stage(start):
    return await start()


@pytest.fixture
def open_nights(start, tmp_path):
    """Return a function that opens nights with other settings."""

    async def run(**settings):
        return Nights(await start(**settings), tmp_path)

    return run


@pytest.fixture
async def nights(stage, tmp_path):
    return Nights(stage, tmp_path)


def plain_rows(count=1000):
    """Return rows with values that break easily: leading zeros, quotes, line breaks, padded and missing texts, floats, timestamps."""
    rng = random.Random(5)
    texts = ["Größe", 'say "hi"', "a,b;c", "two\nlines", "日本語", " padded ", None, "plain", "'", "x" * 60]
    start = dt.datetime(2024, 3, 30, 23, 59, 59, 123456)
    return [
        (
            number,
            f"{number % 97:010d}",
            rng.uniform(-1e6, 1e6),
            start + dt.timedelta(minutes=37 * number),
            number % 3 == 0,
            texts[number % len(texts)],
        )
        for number in range(count)
    ]


NAMES = ["N", "ID", "X", "AT", "B", "S"]


def as_table(rows):
    columns = list(zip(*rows, strict=True))
    types = [pa.int64(), pa.string(), pa.float64(), pa.timestamp("us"), pa.bool_(), pa.string()]
    return pa.table(
        [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)],
        names=NAMES,
    )


def write_csv(path, rows, names=NAMES, *, open_file=open):
    def as_text(value):
        if isinstance(value, bool):
            return "true" if value else "false"
        return value.isoformat(sep=" ") if isinstance(value, dt.datetime) else value

    with open_file(path, "wt", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        writer.writerows([as_text(value) for value in row] for row in rows)
    return path


@pytest.fixture
def rows():
    return plain_rows()


@pytest.fixture
def table(rows):
    return as_table(rows)


@pytest.fixture
def make_rows():
    return plain_rows


@pytest.fixture
def make_table():
    return as_table


@pytest.fixture
def save_csv(tmp_path):
    def save(name, rows, names=NAMES, **options):
        return write_csv(tmp_path / name, rows, names, **options)

    return save


@pytest.fixture
def shared_data():
    """Return the folder of public event logs, which some machines have next to the checkout."""
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no ../shared/data on this machine")
    return folder


@pytest.fixture
def cli(tmp_path, monkeypatch):
    return CommandLine(tmp_path, monkeypatch)


@pytest.fixture
def case(cli):
    """Return a function that copies the inputs of a case into the folder of the command line, and returns the command line."""

    def copy(name):
        shutil.copytree(CASES / name, cli.folder, dirs_exist_ok=True)
        return cli

    return copy


@pytest.fixture
def case_input(case):
    """Return a function that copies the input of a case into the folder of the command line, and returns its name."""
    return lambda name: next(path.name for path in case(name).folder.glob("input.*"))
