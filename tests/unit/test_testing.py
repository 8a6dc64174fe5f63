"""What users get for their own tests: a platform in memory, and an emulator as a pytest fixture, with any event loop or none."""

import asyncio
import json
import os
import subprocess
import sys
import textwrap
import threading
import urllib.request

import aiohttp
import duckdb
import pytest

from pushengine.emulator import Emulator, EmulatorSettings, Fault, FaultPlan
from pushengine.emulator.faults import Status
from pushengine.errors import ConflictError, NotFoundError, OutcomeUnknownError
from pushengine.interfaces import Destination
from pushengine.model import JobStatus, Payload, TableColumn, Target
from pushengine.testing import EmulatorThread, MemoryDestination

HEADERS = {"Authorization": "Bearer key"}


def get(url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=HEADERS)) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, None


def create(url, table):
    body = json.dumps({"targetName": table, "type": "REPLACE"}).encode()
    request = urllib.request.Request(f"{url}/integration/api/v1/data-push/p/jobs/", body, HEADERS, method="POST")
    with urllib.request.urlopen(request) as response:
        return json.load(response)["id"]


# The platform in memory

PAYLOAD = Payload("000000", memoryview(b"rows"), rows=2, source_rows=(0, 2), digests={"md5": "d1", "sha256": "d2"})


async def test_a_job_behaves_as_on_the_platform():
    platform: Destination = MemoryDestination(checksum="sha256")
    job = await platform.create_job(Target("orders"), ())
    await platform.upload_chunk(job.id, PAYLOAD, "UPSERT")
    [chunk] = await platform.list_chunks(job.id)
    await platform.submit_job(job.id, duplicate_removal_column=None)

    assert (chunk.type, chunk.checksum) == ("UPSERT", "d2")
    assert (await platform.get_job(job.id)).status is JobStatus.DONE
    assert [listed.id for listed in await platform.list_jobs()] == [job.id]
    assert platform.jobs[job.id].payloads == [PAYLOAD]
    assert platform.calls == ["create", "upload", "list_chunks", "submit", "get", "list"]


async def test_the_platform_keeps_no_tables_unless_columns_is_overridden():
    class Platform(MemoryDestination):
        def columns(self, table, connection_id):
            return [TableColumn(f"{table} {connection_id}", "INTEGER")]

    for platform, columns in ((MemoryDestination(), []), (Platform(), [TableColumn("t c1", "INTEGER")])):
        assert await platform.table_columns("t", "c1") == columns
        assert platform.calls == ["columns"]


async def test_a_submitted_job_accepts_nothing_more():
    platform = MemoryDestination()
    job = await platform.create_job(Target("orders"), ())
    await platform.submit_job(job.id, duplicate_removal_column=None)
    with pytest.raises(ConflictError):
        await platform.upload_chunk(job.id, PAYLOAD, "UPSERT")
    with pytest.raises(ConflictError):
        await platform.submit_job(job.id, duplicate_removal_column=None)
    assert platform.jobs[job.id].chunks == []


async def test_a_deleted_job_is_gone_and_can_be_deleted_again():
    platform = MemoryDestination()
    job = await platform.create_job(Target("orders"), ())
    await platform.delete_job(job.id)
    await platform.delete_job(job.id)
    with pytest.raises(NotFoundError):
        await platform.get_job(job.id)


async def test_a_platform_that_loses_every_response_still_executes_the_requests():
    class LosesEveryResponse(MemoryDestination):
        async def call(self, operation, job_id, effect):
            await super().call(operation, job_id, effect)
            raise OutcomeUnknownError("no response")

    platform = LosesEveryResponse()
    with pytest.raises(OutcomeUnknownError):
        await platform.create_job(Target("orders"), ())
    [job_id] = platform.jobs
    with pytest.raises(OutcomeUnknownError):
        await platform.upload_chunk(job_id, PAYLOAD, "UPSERT")
    assert [chunk.checksum for chunk in platform.jobs[job_id].chunks] == ["d1"]


# The thread


def test_an_emulator_runs_without_an_event_loop_in_the_caller():
    threads = set(threading.enumerate())
    with EmulatorThread() as emulator:
        assert emulator.url == f"http://127.0.0.1:{emulator.port}"
        assert get(f"{emulator.url}/api/cloud/team") == (200, {"domain": "emulator"})
        assert emulator.query("SELECT ?", [1]) == [(1,)]
        with pytest.raises(duckdb.Error):
            emulator.query("SELECT * FROM nothing")
    assert set(threading.enumerate()) <= threads


def test_faults_and_settings_reach_the_emulator():
    with EmulatorThread(settings=EmulatorSettings(submits_per_hour=3)) as emulator:
        emulator.faults = [Fault("team", Status(503), nth=1)]
        assert [get(f"{emulator.url}/api/team")[0] for _ in range(2)] == [503, 200]
        assert emulator.faults.fired == [("team", 1, "status")]
        assert get(f"{emulator.url}/api/team")[1]["dataPushJobSubmissionLimitPerHour"] == 3


def test_an_emulator_can_be_started_again_and_closed_twice():
    emulator = EmulatorThread()
    for _ in range(2):
        emulator.start()
        with pytest.raises(RuntimeError):
            emulator.start()
        job_id = create(emulator.url, "t")
        with urllib.request.urlopen(
            urllib.request.Request(
                f"{emulator.url}/integration/api/v1/data-push/p/jobs/{job_id}", b"", HEADERS, method="POST"
            )
        ) as response:
            assert response.status == 200
        emulator.close()
        emulator.close()
        with pytest.raises(RuntimeError):
            emulator.query("SELECT 1")
        assert {job.status for job in emulator.emulator.service.jobs.values()} == {"ERROR"}  # without chunks


def test_an_error_that_prevents_the_start_is_raised(tmp_path):
    threads = set(threading.enumerate())
    with pytest.raises(duckdb.Error):
        EmulatorThread(tmp_path / "no" / "folder.duckdb").start()
    with EmulatorThread() as emulator, pytest.raises(OSError):
        EmulatorThread(port=emulator.port).start()
    assert set(threading.enumerate()) <= threads


def test_the_caller_may_use_one_event_loop_after_another():
    async def ask(emulator):
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{emulator.url}/api/team", headers=HEADERS) as response,
        ):
            return response.status, await emulator.emulator.query("SELECT 1")

    with EmulatorThread() as emulator:
        assert [asyncio.run(ask(emulator)) for _ in range(2)] == [(200, [(1,)])] * 2


# The plugin, in a separate pytest process

TESTS = """
    import json
    import urllib.request

    import aiohttp
    import pytest

    from pushengine.emulator import Emulator, EmulatorSettings
    from pushengine.emulator.faults import Fault, Status
    from pushengine.testing import EmulatorThread, RecordingSink

    HEADERS = {"Authorization": "Bearer key"}

    async def limit(emulator):
        async with aiohttp.ClientSession() as session, session.get(f"{emulator.url}/api/team", headers=HEADERS) as response:
            return response.status, (await response.json())["dataPushJobSubmissionLimitPerHour"]

    @pytest.mark.asyncio
    async def test_on_the_loop_of_the_function(pushengine_emulator):
        assert isinstance(pushengine_emulator, Emulator)
        assert await limit(pushengine_emulator) == (200, 250)
        assert await pushengine_emulator.query("SELECT 1") == [(1,)]
        assert not pushengine_emulator.faults.fired

    @pytest.mark.asyncio(loop_scope="module")
    async def test_on_the_loop_of_the_module(pushengine_emulator):
        pushengine_emulator.faults = [Fault("team", Status(200, {"dataPushJobSubmissionLimitPerHour": 1}))]
        assert await limit(pushengine_emulator) == (200, 1)
        assert await pushengine_emulator.query("SELECT 1") == [(1,)]

    def test_without_a_loop(pushengine_emulator_thread, pushengine_emulator):
        assert isinstance(pushengine_emulator_thread, EmulatorThread)
        assert pushengine_emulator_thread.emulator is pushengine_emulator
        assert pushengine_emulator_thread.query("SELECT 1") == [(1,)]

    class TestOther:
        @pytest.fixture
        def pushengine_emulator_settings(self):
            return EmulatorSettings(submits_per_hour=7)

        @pytest.mark.asyncio
        async def test_settings(self, pushengine_emulator):
            assert await limit(pushengine_emulator) == (200, 7)
"""


def run_pytest(folder, *options):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", "-p", "no:cacheprovider", "-W", "error", *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.fixture
def project(tmp_path):
    """Create a folder of a user's tests, in strict asyncio mode, which is the default of pytest-asyncio."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    (tmp_path / "test_mine.py").write_text(textwrap.dedent(TESTS))
    return tmp_path


def test_a_conftest_enables_the_fixtures(project):
    """This also works if the conftest has already imported the module."""
    (project / "conftest.py").write_text(
        'from pushengine.testing import RecordingSink\n\npytest_plugins = ["pushengine.testing"]\n'
    )
    done = run_pytest(project)
    assert "4 passed" in done.stdout, done.stdout + done.stderr


def test_the_command_line_enables_the_fixtures_in_auto_mode_too(project):
    done = run_pytest(project, "-p", "pushengine.testing", "--asyncio-mode=auto")
    assert "4 passed" in done.stdout, done.stdout + done.stderr


# What importing the module costs


def run_python(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr


def test_the_module_does_not_need_pytest():
    run_python(
        "import sys; sys.modules['pytest'] = None\n"
        "from pushengine.testing import EmulatorThread, RecordingSink\n"
        "with EmulatorThread() as emulator: assert emulator.query('SELECT 1') == [(1,)]"
    )


def test_the_module_imports_nothing_heavy():
    run_python(
        "import sys, pushengine.testing\n"
        "heavy = {'aiohttp', 'duckdb', 'pyarrow', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )


def test_the_emulator_of_an_emulator_thread_is_available_before_the_start():
    emulator = EmulatorThread(settings=EmulatorSettings(fault_plan=FaultPlan([Fault("list", Status(503))])))
    assert isinstance(emulator.emulator, Emulator)
    assert len(emulator.faults.plan.faults) == 1
    emulator.close()
