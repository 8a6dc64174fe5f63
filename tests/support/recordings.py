"""Recordings of what a user or an older version relies on: help, JSON outputs, payloads, and a state folder of journal format 1.

`python -m support.recordings help outputs payloads state` (in `tests/`) writes the files of `tests/recorded/data` again. Do that only if their
content is meant to change.
"""

import asyncio
import contextlib
import gzip
import io
import json
import platform
import re
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
from support.lab import Lab

from pushengine import EngineSettings, PushEngine, UserApiKey
from pushengine.emulator import Emulator, EmulatorSettings

DATA = Path(__file__).parents[1] / "recorded" / "data"
STATE = DATA / "state_format_1"
VERSIONS = {"pyarrow": pa.__version__, "machine": platform.machine()}
HALF_WAY_ROWS = 20_000


def quick_emulator():
    settings = EmulatorSettings(
        queue_seconds=0.0,
        run_seconds=0.0,
        submits_per_hour=100_000,
        accepted_codecs=frozenset({"SNAPPY", "UNCOMPRESSED", "ZSTD"}),
        accepts_int64_timestamps=True,
    )
    return Emulator(settings=settings)


# --- Help ---------------------------------------------------------------------------------------------------------------------------


def collect_help(command, words=()):
    """Return every command with its parameters: name, flags, default and whether it may be repeated. Help texts are left out."""
    described = {
        " ".join(words): {
            parameter.name: {
                "flags": sorted([*parameter.opts, *parameter.secondary_opts]),
                "required": parameter.required,
                "repeatable": bool(getattr(parameter, "multiple", False)) or parameter.nargs != 1,
                "default": None if parameter.default is None else str(parameter.default),
                "metavar": parameter.metavar,
            }
            for parameter in command.params
        }
    }
    for name, child in getattr(command, "commands", {}).items():
        described |= collect_help(child, (*words, name))
    return described


# --- JSON outputs -------------------------------------------------------------------------------------------------------------------

_PATTERNS = (
    (re.compile(r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b\d{8}T\d{6}Z-[0-9a-f]{8}\b"), "<push>"),
    (re.compile(r"\b[0-9a-f]{8,128}\b"), "<digest>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)"), "<time>"),
    (re.compile(r"127\.0\.0\.1:\d+"), "<team>"),
)
_PROSE = frozenset({"message", "hint", "story", "detail", "remedy"})
_VARIES = frozenset({"payload_bytes", "size_bytes", "facts", "pid", "at", "poll"})


def blurred(value, folder, key=""):  # noqa: PLR0911 - one case per line
    """Return the value without prose and without what differs between two runs."""
    if key in _PROSE and value:
        return "<prose>"
    if key == "facts" and isinstance(value, list):
        return {fact["kind"]: sorted(fact) for fact in value}
    if key in _VARIES and value is not None:
        return "<varies>"
    if isinstance(value, dict):
        return {name: blurred(inner, folder, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [blurred(inner, folder) for inner in value]
    if isinstance(value, float):
        return "<float>"
    if isinstance(value, str):
        value = value.replace(str(folder), "<folder>")
        for pattern, name in _PATTERNS:
            value = pattern.sub(name, value)
    return value


def write_small_sources(folder):
    (folder / "orders.csv").write_text("ID,NAME,AMOUNT\n0001,Müller,1.50\n0002,Groß,2.25\n0003,,\n", encoding="utf-8")
    (folder / "ragged.csv").write_text("A,B\n1,2\n3\n")
    (folder / "c.toml").write_text("[engine]\nencoder_threads = 2\npoll_max_interval_seconds = 0.2\n")


async def collect_outputs(folder):
    """Return the exit code and JSON of each command that has `--json`, in the order of the calls."""
    write_small_sources(folder)
    outputs = {}
    async with quick_emulator() as emulator:
        lab = Lab(emulator, folder)
        known = {}

        async def record(name, *words):
            process = await lab.run(*(known.get(word, word) for word in words), "--json")
            code, output, _ = await lab.finish(process)
            outputs[name] = {"exit": code, "json": blurred(output, folder)}
            return output

        receipt = await record("push", "push", "orders.csv", "--table", "T", "--mode", "upsert", "--key", "ID")
        known |= {"PUSH": receipt["push_id"], "JOB": receipt["job_id"]}
        await record("push, dry run", "push", "orders.csv", "--table", "T", "--dry-run")
        await record("push, embedded emulator", "push", "orders.csv", "--table", "T", "--emulator")
        await record("push, no such file", "push", "missing.csv", "--table", "T")
        await record("push, ragged", "push", "ragged.csv", "--table", "T")
        await record("push, usage", "push", "orders.csv")
        await record("push, upsert without key", "push", "orders.csv", "--table", "T", "--mode", "upsert")
        await record("plan", "plan", "orders.csv", "--table", "T", "--column", "AMOUNT=STRING")
        await record("history", "history")
        await record("show", "show", "PUSH")
        await record("show, unknown", "show", "nothing")
        await record("resume, nothing", "resume")
        await record("resume, unknown", "resume", "nothing")
        await record("quota", "quota")
        await record("quota reset", "quota", "reset")
        await record("check", "check")
        await record("jobs list", "jobs", "list")
        await record("jobs show", "jobs", "show", "JOB")
        await record("jobs delete", "jobs", "delete", "JOB")
        await record("jobs show, unknown", "jobs", "show", "nothing")
        await record("journal check", "journal", "check")
        await record("demo", "demo", "--cases", "50")
    return outputs


# --- Payloads -----------------------------------------------------------------------------------------------------------------------


def _wide_table(rows, start=0):
    numbers = range(start, start + rows)
    return pa.table(
        {
            "N": pa.array(numbers, pa.int64()),
            "SMALL": pa.array([n % 300 for n in numbers], pa.int16()),
            "PRICE": pa.array([n / 8 for n in numbers], pa.float64()),
            "IS_OPEN": pa.array([None if n % 7 == 0 else n % 2 == 0 for n in numbers], pa.bool_()),
            "WHEN": pa.array([1_700_000_000_000 + n * 1_000 for n in numbers], pa.timestamp("ms")),
            "DAY": pa.array([n % 20_000 for n in numbers], pa.date32()),
            "TEXT": pa.array([f"text of row {n * 7919 % 100_003}" if n % 11 else None for n in numbers], pa.string()),
        }
    )


def _csv_rows(rows):
    return "".join(
        f'{n:08d},"row ""{n % 97}"", with\na second line",{n % 13}.{n % 100:02d},2026-01-{n % 28 + 1:02d}\n'
        for n in range(rows)
    )


def write_sources(folder):
    """Write the sources of `payload_pushes`."""
    header = "ID,TEXT,AMOUNT,DAY\n"
    plain = header + _csv_rows(4000)
    (folder / "quoted.csv").write_text(plain)
    (folder / "packed.csv.gz").write_bytes(gzip.compress(plain.encode(), mtime=0))
    latin = "ID;NAME;PREIS\n" + "".join(f"{n};Grüße {n % 50};{n % 90},5\n" for n in range(9000))
    (folder / "latin.csv").write_text(latin, encoding="latin-1")
    (folder / "parts").mkdir()
    for part in range(3):
        (folder / "parts" / f"{part}.csv").write_text(header + _csv_rows(1500 + part))
    table = _wide_table(20_000)
    proven = {"use_deprecated_int96_timestamps": True, "compression": "snappy"}
    pq.write_table(table, folder / "proven.parquet", row_group_size=4000, **proven)
    pq.write_table(table, folder / "other.parquet", row_group_size=6000, compression="zstd")
    with pa.OSFile(str(folder / "table.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=3000)


async def _batches():
    for start in range(0, 12_000, 2500):
        for batch in _wide_table(2500, start).to_batches():
            yield batch


def payload_pushes(folder):
    """Return (source, options of `push`, settings) by name."""
    return {
        "csv": (folder / "quoted.csv", {}, {}),
        "csv, as CSV": (folder / "quoted.csv", {}, {"file_type": "CSV"}),
        "csv, keys": (folder / "quoted.csv", {"mode": "upsert", "keys": ("ID",)}, {}),
        "csv, typed by hand": (folder / "quoted.csv", {"column_types": {"AMOUNT": "STRING"}}, {}),
        "csv, gzip": (folder / "packed.csv.gz", {}, {}),
        "csv, semicolons, Latin-1": (folder / "latin.csv", {}, {"csv_encoding": "latin-1"}),
        "csv, many files": (folder / "parts", {}, {}),
        "csv, standard input": (io.BytesIO((folder / "quoted.csv").read_bytes()), {"format": "csv"}, {}),
        "parquet, passed through": (folder / "proven.parquet", {}, {}),
        "parquet, encoded again": (folder / "proven.parquet", {}, {"parquet_as_it_is": False}),
        "parquet, other writer": (folder / "other.parquet", {}, {}),
        "parquet, INT64 timestamps": (folder / "other.parquet", {}, {"timestamps": "INT64"}),
        "parquet, ZSTD": (folder / "other.parquet", {}, {"compression": "ZSTD"}),
        "parquet, as CSV": (folder / "other.parquet", {}, {"file_type": "CSV"}),
        "arrow file": (folder / "table.arrow", {}, {}),
        "arrow table": (_wide_table(15_000), {}, {}),
        "arrow reader, spooled": (_wide_table(9000).to_reader(max_chunksize=2000), {"spool": True}, {}),
        "async batches": (_batches(), {"schema": _wide_table(1).schema}, {}),
    }


async def collect_payloads(folder):
    """Return for each source name `[chunk id, first row, end row, SHA-256 of the payload]` of each chunk, and the inferred columns."""
    write_sources(folder)
    collected = {}
    async with quick_emulator() as emulator:
        for number, (name, (source, options, settings)) in enumerate(payload_pushes(folder).items()):
            engine_settings = EngineSettings(
                chunk_bytes=128 * 1024, sample_bytes=128 * 1024, encoder_threads=2, hour_guard_seconds=0, **settings
            )
            engine = PushEngine(
                emulator.url,
                pool_id="pool-1",
                auth=UserApiKey("key"),
                settings=engine_settings,
                state_dir=folder / "state",
            )
            async with engine:
                receipt = await engine.push(source, table=f"T{number}", **options)
            assert receipt.status == "DONE"
            collected[name] = _sent(folder / "state" / "journal.sqlite3", receipt.push_id)
    return collected


def _sent(journal, push_id):
    with contextlib.closing(sqlite3.connect(journal)) as db:
        facts = db.execute("SELECT kind, body FROM facts WHERE push_id = ? ORDER BY seq", (push_id,)).fetchall()
    bodies = [(kind, json.loads(body)) for kind, body in facts]
    (planned,) = [body for kind, body in bodies if kind == "push_planned"]
    chunks = {
        body["chunk_id"]: [body["chunk_id"], body["first_row"], body["end_row"], body["digests"]["sha256"]]
        for kind, body in bodies
        if kind == "chunk_sending"
    }
    return {"columns": planned["schema"]["columns"], "chunks": [chunks[chunk_id] for chunk_id in sorted(chunks)]}


# --- A state folder -----------------------------------------------------------------------------------------------------------------


async def record_state_folder(folder):
    """Record a finished push, a push that was killed half-way, and the chunks of the latter that the platform had by then."""
    shutil.rmtree(STATE, ignore_errors=True)
    STATE.mkdir(parents=True)
    write_small_sources(folder)
    async with quick_emulator() as emulator:
        lab = Lab(emulator, folder)
        lab.write(HALF_WAY_ROWS)
        code, receipt, err = await lab.finish(await lab.start("DONE", source="orders.csv"))
        assert code == 0, err
        process = await lab.start("HALF")
        assert await lab.wait_for_chunks(process, 6)
        process.kill()
        await process.communicate()
        (job,) = [job for job in emulator.service.jobs.values() if job.status == "NEW"]
        (STATE / "payloads").mkdir()
        payloads = []
        for number, chunk in enumerate(job.chunks):
            shutil.copyfile(chunk.path, STATE / "payloads" / f"{number}.parquet")
            payloads.append(chunk.checksum)
        server = {"create": job.spec.raw, "payloads": payloads}
        team = emulator.url.removeprefix("http://")
    shutil.copytree(folder / "state", STATE / "folder", ignore=shutil.ignore_patterns("*-shm"))
    known = {"folder": str(folder), "team": team, "job_id": job.id, "done_push": receipt["push_id"], **VERSIONS}
    (STATE / "recorded.json").write_text(json.dumps(known | server, indent=1, sort_keys=True) + "\n")


# --- Files --------------------------------------------------------------------------------------------------------------------------


def recorded(name):
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def _write(name, value):
    text = json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
    (DATA / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def main():
    import typer.main

    from pushengine.cli.app import app

    for name in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            if name == "help":
                _write(name, collect_help(typer.main.get_command(app)))
            elif name == "outputs":
                _write(name, asyncio.run(collect_outputs(Path(folder))))
            elif name == "payloads":
                _write(name, VERSIONS | {"sources": asyncio.run(collect_payloads(Path(folder)))})
            elif name == "state":
                asyncio.run(record_state_folder(Path(folder)))


if __name__ == "__main__":
    main()
