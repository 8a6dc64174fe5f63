"""One team, one folder, and real commands that push a file to the team and are killed."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from pathlib import Path

from pushengine.journal.store import JournalFile

ROWS = 30_000
MAX_UPLOADS = 8
CONFIG = f"""
[engine]
chunk_bytes = 65536
sample_bytes = 65536
max_uploads = {MAX_UPLOADS}
quarantine_seconds = 0.5
settle_seconds = 0.2
poll_max_interval_seconds = 0.2
hour_guard_seconds = 0
submits_per_hour = 100000
"""


class Lab:
    """One team, one folder, and commands that push a file to the team."""

    def __init__(self, emulator, folder):
        self.emulator, self.folder = emulator, folder
        self.running = []
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PUSHENGINE_", "XDG_"))}
        self.environment = kept | {
            "HOME": str(folder),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PUSHENGINE_STATE_DIR": str(folder / "state"),
            "PUSHENGINE_URL": emulator.url,
            "PUSHENGINE_POOL_ID": "pool-1",
            "PUSHENGINE_API_KEY": "test-key-1",
            "PUSHENGINE_CONFIG": str(folder / "c.toml"),
            "NO_COLOR": "1",
        }

    def write(self, rows=ROWS):
        lines = [f"{n},{n:010d},{(n * 7919) % 100003:08d} some text of row {n} that fills it up\n" for n in range(rows)]
        (self.folder / "big.csv").write_text("N,ID,TEXT\n" + "".join(lines))
        (self.folder / "c.toml").write_text(CONFIG)

    def resized(self):
        """Change the chunk size in the configuration for all later commands."""
        text = (self.folder / "c.toml").read_text().replace("chunk_bytes = 65536", "chunk_bytes = 131072")
        (self.folder / "c.toml").write_text(text)

    @staticmethod
    def older_plan(body):
        """Return the plan as an earlier version would have recorded it."""
        plan = json.loads(body)
        plan["fingerprint"] = [file[:4] for file in plan["fingerprint"]]
        plan["recipe"] |= {"file_type": "PARQUET", "compression": "SNAPPY", "timestamps": "INT96", "as_it_is": True}
        plan["recipe"]["csv"] = [None, "utf-8"]
        del plan["label"]
        return json.dumps(plan)

    async def start(self, table, program=("-m", "pushengine"), *, source="big.csv", mode="append"):
        key = ("--key", "N") if mode in ("upsert", "delete") else ()
        return await self.run(*("push", source, "--table", table, "--mode", mode, *key, "--json"), program=program)

    async def run(self, *words, program=("-m", "pushengine"), stdin=None):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, *program, *words),
            cwd=self.folder,
            env=self.environment,
            stdin=None if stdin is None else asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self.running.append(process)
        if stdin is not None:
            process.stdin.write(stdin)
            process.stdin.close()
        return process

    @staticmethod
    async def finish(process, seconds=60):
        out, err = await asyncio.wait_for(process.communicate(), seconds)
        assert b"Traceback" not in err, err.decode()
        return process.returncode, json.loads(out) if out else None, err.decode()

    def stored(self):
        return sum(len(job.chunks) for job in self.emulator.service.jobs.values())

    async def wait_for_chunks(self, process, count):
        """Wait until `count` more chunks have arrived. Return False if the process ends first."""
        wanted = self.stored() + count
        while self.stored() < wanted:
            if process.returncode is not None:
                return False
            await asyncio.sleep(0.002)
        return True

    async def pause(self, process):
        """Stop a process at a point where it holds no lock on the database."""
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "journal.sqlite3", timeout=0)) as db:
            while True:
                process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(0.02)
                try:
                    db.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    process.send_signal(signal.SIGCONT)
                    await asyncio.sleep(0.005)
                else:
                    db.rollback()
                    return

    async def check_table(self, table, rows=ROWS):
        found = await self.emulator.query(
            f'select count(*), count(distinct N), sum(N), count(distinct ID) from "{table}"'
        )
        assert found == [(rows, rows, rows * (rows - 1) // 2, rows)]

    def journal(self):
        return contextlib.closing(JournalFile(self.folder / "state" / "journal.sqlite3"))

    def check_resent(self, table):
        """Check that each run sends again at most what was in flight when the previous run died. Return how often pushes were restarted."""
        restarts = 0
        with self.journal() as file:
            for push in file.pushes():
                if push.target != table:
                    continue
                sent, sizes, again = set(), [0], 0
                for fact in file.facts(push.push_id):
                    if fact.kind == "session_started":
                        assert again <= MAX_UPLOADS * max(sizes)
                        again = 0
                    if fact.kind == "push_restarted":
                        restarts, again = restarts + 1, 0
                    if fact.kind == "chunk_sending":
                        key = fact.body["job_id"], fact.body["chunk_id"]
                        again += fact.body["payload_bytes"] if key in sent else 0
                        sent.add(key)
                        sizes.append(fact.body["payload_bytes"])
                assert again <= MAX_UPLOADS * max(sizes)
        return restarts

    def check_submits(self, table):
        """Check that exactly one job of the table ran."""
        jobs = [job for job in self.emulator.service.jobs.values() if job.spec.target_name == table]
        assert [str(job.status) for job in jobs if job.status != "NEW"] == ["DONE"]
