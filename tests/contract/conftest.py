"""An emulator per test and a plain HTTP client. Nothing here uses the engine."""

import asyncio
import io
import json
from dataclasses import dataclass

import aiohttp
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from multidict import CIMultiDictProxy

from pushengine.emulator import Emulator, EmulatorSettings

POOL = "pool-1"
NEW_BASE = "/data-ingestion/api/v1/data-push"
BOUNDARY = "contract-boundary"
FINAL = {"DONE", "ERROR", "CANCELED"}


@dataclass
class Response:
    status: int
    headers: CIMultiDictProxy
    content: bytes

    @property
    def json(self):
        return json.loads(self.content)


class ServerClock:
    """The emulator's clock, which the test moves."""

    def __init__(self, now=1_767_225_600.0 + 600):  # ten minutes into an hour, 2026-01-01
        self.now = now

    def __call__(self):
        return self.now


def parquet_bytes(data, **options):
    table = data if isinstance(data, pa.Table) else pa.table(data)
    stream = io.BytesIO()
    pq.write_table(table, stream, **({"use_deprecated_int96_timestamps": True, "compression": "snappy"} | options))
    return stream.getvalue()


def form(content, name="file", *, end=True):
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="file"\r\n\r\n'
    return head.encode() + content + (f"\r\n--{BOUNDARY}--\r\n".encode() if end else b"")


class Team:
    """An HTTP client with an API key that uses one pool."""

    def __init__(self, emulator, session, pool=POOL):
        self.emulator = emulator
        self.session = session
        self.jobs_path = f"{NEW_BASE}/{pool}/jobs/"
        self.headers = {"Authorization": "Bearer key"}

    async def request(self, method, path, *, headers=None, **options):
        headers = self.headers if headers is None else headers
        url = self.emulator.url + path
        async with self.session.request(method, url, headers=headers, allow_redirects=False, **options) as response:
            return Response(response.status, response.headers, await response.read())

    async def create(self, table="orders", kind="REPLACE", **fields):
        return await self.request("POST", self.jobs_path, json={"targetName": table, "type": kind} | fields)

    async def new_job(self, *args, **fields):
        response = await self.create(*args, **fields)
        assert response.status == 200, response.content
        return response.json["id"]

    async def upload(self, job_id, data, kind="upserted", **options):
        """Upload bytes unchanged, or a mapping of columns as Parquet."""
        content = data if isinstance(data, bytes) else parquet_bytes(data)
        headers = self.headers | {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        path = f"{self.jobs_path}{job_id}/chunks/{kind}"
        return await self.request("POST", path, data=io.BytesIO(form(content)), headers=headers, **options)

    async def submit(self, job_id, **options):
        return await self.request("POST", self.jobs_path + job_id, **options)

    async def get(self, job_id):
        return await self.request("GET", self.jobs_path + job_id)

    async def delete(self, job_id):
        return await self.request("DELETE", self.jobs_path + job_id)

    async def chunks(self, job_id):
        return (await self.request("GET", f"{self.jobs_path}{job_id}/chunks")).json

    async def settled(self, job_id):
        async with asyncio.timeout(20):
            while True:
                job = (await self.get(job_id)).json
                if job["status"] in FINAL:
                    return job
                await asyncio.sleep(0.005)

    async def load(self, table, *uploads, kind="REPLACE", removal=None, **fields):
        """Create, fill and run a job. Each upload is data, or a pair of data and `deleted`."""
        job_id = await self.new_job(table, kind, **fields)
        for upload in uploads:
            data, chunk_kind = upload if isinstance(upload, tuple) else (upload, "upserted")
            response = await self.upload(job_id, data, chunk_kind)
            assert response.status == 200, response.content
        params = {} if removal is None else {"duplicateRemovalColumn": removal}
        response = await self.submit(job_id, params=params)
        assert response.status == 200, response.content
        return await self.settled(job_id)

    async def rows(self, sql):
        return await self.emulator.query(sql)

    def spool_files(self):
        return sorted(self.emulator._spool.path.glob("*.chunk"))


@pytest.fixture
def clock():
    return ServerClock()


@pytest.fixture
async def start():
    """Start emulators: `team = await start(submits_per_hour=3)`."""
    started = []

    async def _start(*, database=None, pool=POOL, **settings):
        settings = {"queue_seconds": 0.0, "run_seconds": 0.0} | settings
        emulator = Emulator(database, settings=EmulatorSettings(**settings))
        await emulator.start()
        session = aiohttp.ClientSession()
        started.append((emulator, session))
        return Team(emulator, session, pool)

    yield _start
    for emulator, session in started:
        await session.close()
        await emulator.aclose()


@pytest.fixture
async def team(start):
    return await start()


@pytest.fixture
def to_parquet():
    return parquet_bytes


@pytest.fixture
def to_form():
    return form
