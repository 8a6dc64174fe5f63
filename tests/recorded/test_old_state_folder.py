"""A state folder that an earlier version left behind, with a push killed half-way: the current version finishes that push."""

import contextlib
import json
import shutil
import sqlite3

import aiohttp
import pytest
from support.lab import Lab
from support.recordings import HALF_WAY_ROWS, STATE, VERSIONS, quick_emulator, write_small_sources

from pushengine.quota.ledger import SqliteLedger

pytestmark = pytest.mark.timeout(120)
KNOWN = json.loads((STATE / "recorded.json").read_text())


async def recreate_job(emulator):
    """Recreate what the platform held when the push was killed, and return the id of its job."""
    jobs = f"{emulator.url}/data-ingestion/api/v1/data-push/pool-1/jobs/"
    async with aiohttp.ClientSession(headers={"Authorization": "Bearer key"}, raise_for_status=True) as session:
        async with session.post(jobs, json=KNOWN["create"]) as response:
            job_id = (await response.json())["id"]
        for number, checksum in enumerate(KNOWN["payloads"]):
            form = aiohttp.FormData()
            form.add_field("file", (STATE / "payloads" / f"{number}.parquet").read_bytes(), filename="file")
            async with session.post(f"{jobs}{job_id}/chunks/upserted", data=form) as response:
                assert (await response.json())["checksum"] == checksum
    return job_id


def copy_state_folder(lab, job_id, *, is_untouched):
    """Copy the recorded folder as if it had been written on this machine, and return the ids of its open pushes."""
    state = lab.folder / "state"
    shutil.copytree(STATE / "folder", state)
    new = {KNOWN["folder"]: str(lab.folder), KNOWN["job_id"]: job_id, KNOWN["pyarrow"]: VERSIONS["pyarrow"]}
    new |= {KNOWN["team"]: lab.emulator.url.removeprefix("http://"), KNOWN["machine"]: VERSIONS["machine"]}
    with contextlib.closing(sqlite3.connect(state / "journal.sqlite3")) as db, db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        for before, now in new.items():
            db.execute("UPDATE facts SET body = replace(body, ?, ?)", (before, now))
            db.execute("UPDATE pushes SET team = replace(team, ?, ?)", (before, now))
        if is_untouched:
            for seq, body in db.execute("SELECT seq, body FROM facts WHERE kind = 'push_planned'").fetchall():
                db.execute("UPDATE facts SET body = ? WHERE seq = ?", (with_current_stat(lab, body), seq))
        return [row[0] for row in db.execute("SELECT push_id FROM pushes WHERE state = 'open'")]


def with_current_stat(lab, body):
    plan = json.loads(body)
    for file in plan["fingerprint"]:
        now = (lab.folder / file[0]).stat()
        file[2], file[4:] = now.st_mtime_ns, [now.st_dev, now.st_ino, now.st_ctime_ns]
    return json.dumps(plan)


@pytest.fixture
async def lab(tmp_path):
    async with quick_emulator() as emulator:
        opened = Lab(emulator, tmp_path)
        write_small_sources(tmp_path)
        opened.write(HALF_WAY_ROWS)
        # The recording may be older than the time after which a push is abandoned.
        (tmp_path / "c.toml").write_text(
            (tmp_path / "c.toml").read_text() + "stale_hours = 1e6\nhistory_days = 99999\n"
        )
        yield opened


@pytest.mark.parametrize("is_untouched", [True, False], ids=["files untouched", "files rewritten"])
async def test_a_push_killed_half_way_by_an_earlier_version_is_resumed(lab, is_untouched):
    if not is_untouched and {name: KNOWN[name] for name in VERSIONS} != VERSIONS:
        pytest.skip("the recorded payloads were written by another Arrow: a push of rewritten files starts again")
    job_id = await recreate_job(lab.emulator)
    (push_id,) = copy_state_folder(lab, job_id, is_untouched=is_untouched)
    code, receipt, err = await lab.finish(await lab.run("resume", push_id, "--json"))
    assert (code, receipt["status"], receipt["resumed"], receipt["restarts"]) == (0, "DONE", True, 0), err
    assert (receipt["job_id"], receipt["rows"]) == (job_id, HALF_WAY_ROWS)
    assert list(lab.emulator.service.jobs) == [job_id]
    await lab.check_table("HALF", HALF_WAY_ROWS)
    lab.check_submits("HALF")
    with lab.journal() as file:
        facts = file.facts(push_id)
    started = [number for number, fact in enumerate(facts) if fact.kind == "session_started"]
    acked = {fact.body["chunk_id"] for fact in facts[: started[-1]] if fact.kind == "chunk_acked"}
    sent_again = {fact.body["chunk_id"] for fact in facts[started[-1] :] if fact.kind == "chunk_sending"}
    assert acked
    assert sent_again
    assert not acked & sent_again


async def test_history_and_quota_of_an_earlier_version_are_read(lab):
    (open_push,) = copy_state_folder(lab, "job", is_untouched=True)
    code, output, err = await lab.finish(await lab.run("history", "--json"))
    assert code == 0, err
    known = {push["push_id"]: (push["table"], push["state"], push["rows"]) for push in output["pushes"]}
    assert known.pop(KNOWN["done_push"]) == ("DONE", "done", 3)
    assert known.pop(open_push)[:2] == ("HALF", "open")
    assert not known
    with contextlib.closing(sqlite3.connect(lab.folder / "state" / "quota.sqlite3")) as db:
        ((team, hour, spent),) = db.execute("SELECT team, hour, spent FROM quota").fetchall()
    ledger = SqliteLedger(lab.folder / "state" / "quota.sqlite3")
    with contextlib.closing(ledger):
        assert (team, spent) == (KNOWN["team"], 1)
        assert ledger.status(team, hour * 3600.0 + 60.0, hour * 3600.0 + 60.0).spent == 1
