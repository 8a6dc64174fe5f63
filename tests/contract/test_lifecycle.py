"""Starting and closing the emulator: what remains, what does not, and how other processes can read the tables."""

import asyncio
import socket
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from pushengine.emulator import Emulator, EmulatorSettings

READ = "import duckdb, sys; print(duckdb.connect(sys.argv[1], read_only=True).execute('SELECT a FROM t').fetchall())"


async def other_process(*args):
    return await asyncio.create_subprocess_exec(
        sys.executable, *args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.PIPE
    )


async def test_other_processes_read_the_file_while_the_emulator_runs(start, tmp_path):
    path = tmp_path / "team.duckdb"
    team = await start(database=path)
    await team.load("t", {"a": [1]})
    process = await other_process("-c", READ, str(path))
    output, errors = await process.communicate()
    assert output.decode().strip() == "[(1,)]", errors
    assert not path.with_name("team.duckdb.wal").exists()


async def test_a_job_waits_until_another_process_releases_the_file(start, tmp_path):
    path = tmp_path / "team.duckdb"
    team = await start(database=path)
    hold = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); input()"
    process = await other_process("-c", hold, str(path))
    assert await process.stdout.readline() == b"held\n"
    job_id = await team.new_job("t")
    await team.upload(job_id, {"a": [1]})
    await team.submit(job_id)
    async with asyncio.timeout(5):
        while (await team.get(job_id)).json["status"] != "RUNNING":
            await asyncio.sleep(0.005)
    await process.communicate(b"\n")
    assert (await team.settled(job_id))["status"] == "DONE"


@pytest.mark.parametrize("in_file", [False, True], ids=["memory", "file"])
async def test_many_jobs_and_queries_at_once(start, tmp_path, in_file):
    team = await start(database=tmp_path / "team.duckdb" if in_file else None, submits_per_second=1000)

    async def push(number):
        job = await team.load(f"t{number}", {"a": [number]}, connectionId=f"c{number % 2}")
        return job["status"], await team.rows(f"SELECT a FROM c{number % 2}.t{number}")

    results = await asyncio.gather(*(push(number) for number in range(20)))
    assert results == [("DONE", [(number,)]) for number in range(20)]


async def test_nothing_is_left_after_closing(tmp_path):
    threads, tasks = set(threading.enumerate()), asyncio.all_tasks()
    async with Emulator(tmp_path / "team.duckdb") as emulator:
        folder, port = emulator._spool.path, emulator.port
        assert folder.is_dir()
        with socket.create_connection(("127.0.0.1", port)):
            pass
    assert not folder.exists()
    assert set(threading.enumerate()) <= threads
    assert asyncio.all_tasks() == tasks
    assert sorted(path.name for path in tmp_path.iterdir()) == ["team.duckdb"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


async def test_closing_waits_for_submitted_jobs_but_skips_their_pauses(start, tmp_path):
    path = tmp_path / "team.duckdb"
    team = await start(database=path, queue_seconds=600, run_seconds=600)
    job_id = await team.new_job("t")
    await team.upload(job_id, {"a": [1]})
    await team.submit(job_id)
    await team.session.close()
    async with asyncio.timeout(10):
        await team.emulator.aclose()
    assert team.emulator.service.jobs[job_id].status == "DONE"
    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT a FROM t").fetchall() == [(1,)]


async def test_closing_in_the_middle_of_an_upload(to_form, to_parquet):
    emulator = Emulator()
    await emulator.start()
    body = to_form(to_parquet({"a": [1]}))
    job = emulator.service.create("p", {"targetName": "t", "type": "REPLACE"})
    _, writer = await asyncio.open_connection("127.0.0.1", emulator.port)
    head = (
        f"POST /integration/api/v1/data-push/p/jobs/{job.id}/chunks/upserted HTTP/1.1\r\nHost: x\r\n"
        "Authorization: Bearer x\r\nContent-Type: multipart/form-data; boundary=contract-boundary\r\n"
        f"Content-Length: {len(body) + 2_000_000}\r\n\r\n"
    )
    writer.write(head.encode() + body + bytes(1_500_000))
    folder = emulator._spool.path
    async with asyncio.timeout(5):
        while not list(folder.iterdir()):
            await asyncio.sleep(0.002)
    async with asyncio.timeout(10):
        await emulator.aclose()
    writer.close()
    assert not folder.exists()
    assert job.chunks == []


async def test_closing_twice_and_starting_again(tmp_path):
    emulator = Emulator(tmp_path / "team.duckdb")
    await emulator.aclose()
    for _ in range(2):
        async with emulator:
            assert emulator.url == f"http://127.0.0.1:{emulator.port}"
            assert await emulator.query("SELECT ?", [1]) == [(1,)]
        await emulator.aclose()
    with pytest.raises(RuntimeError):
        await emulator.query("SELECT 1")


async def test_starting_twice_fails():
    async with Emulator() as emulator:
        with pytest.raises(RuntimeError):
            await emulator.start()


@pytest.mark.parametrize("database", ["no/such/folder/x.duckdb", "text.duckdb"])
async def test_a_database_that_cannot_be_opened_leaves_nothing_behind(tmp_path, database):
    (tmp_path / "text.duckdb").write_text("this is not a database" * 1000)
    threads = set(threading.enumerate())
    with pytest.raises(duckdb.Error):
        await Emulator(tmp_path / database).start()
    assert set(threading.enumerate()) <= threads


async def test_a_port_in_use_leaves_nothing_behind():
    threads = set(threading.enumerate())
    async with Emulator() as emulator:
        with pytest.raises(OSError):
            await Emulator(port=emulator.port).start()
    assert set(threading.enumerate()) <= threads


async def test_emulators_do_not_share_anything(start):
    first, second = await start(), await start()
    await first.load("t", {"a": [1]})
    assert await second.rows("SELECT count(*) FROM information_schema.tables") == [(0,)]
    assert (await second.request("GET", second.jobs_path)).json == []


async def test_the_repr_is_a_status_line():
    emulator = Emulator(settings=EmulatorSettings())
    assert "closed" in repr(emulator)
    async with emulator:
        assert emulator.url in repr(emulator)


def test_importing_the_package_imports_nothing_heavy():
    code = (
        "import sys, pushengine.emulator as e; heavy = {'aiohttp', 'duckdb', 'pyarrow'};"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules); e.EmulatorSettings; assert not heavy & set(sys.modules);"
        "e.Emulator; assert heavy <= set(sys.modules)"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_the_service_does_not_import_http_or_database_packages():
    code = (
        "import sys, pushengine.emulator.jobs.service; assert not {'aiohttp', 'duckdb', 'pyarrow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


def test_the_emulator_imports_nothing_from_the_engine():
    code = (
        "import sys, pushengine; before = set(sys.modules); import pushengine.emulator.server;"
        "imported = {m for m in set(sys.modules) - before if m.startswith('pushengine.') and not m.startswith('pushengine.emulator')};"
        "assert not imported, imported"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
