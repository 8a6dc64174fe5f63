"""Whatever a server answers to the calls of a whole command: a documented exit code, true words, and no row lost or doubled afterwards."""

import asyncio
import contextlib
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.answers import ANSWERS, BOMB, CLIENT_SECRET, JSON, SECRET, SECRETS, TOKEN, VALUES, answer_of
from support.hostile import HOSTILE, UNPAIRED, problem_of, run_command
from support.odd_team import OPERATIONS, Oddity, OddTeam

from pushengine.cli.exit_codes import EXIT_OUTCOME_UNKNOWN
from pushengine.emulator import EmulatorSettings
from pushengine.emulator.jobs.model import ChunkType, JobStatus
from pushengine.runtime.clock import SystemClock
from pushengine.testing import EmulatorThread

CODES = {0, 2, 3, 4, 6, 75}
POOL = "pool-1"
OLD, ROWS = [(1, "old")], [(1, "one"), (2, "two"), (3, "three")]
ENGINE = """[engine]
max_attempts = 3
retry_max_wait_seconds = 5.0
job_deadline_seconds = 120.0
hour_guard_seconds = 0
submits_per_second = 1000
submits_per_hour = 100000
encoder_threads = 1
"""
IMPATIENT = f"{ENGINE}connect_timeout_seconds = 1.0\nread_timeout_seconds = 0.1\nstall_timeout_seconds = 0.3\n"
UNCHANGED = "the table is unchanged"
REFUSAL = re.compile(rb"HTTP/1\.\d 4(?!08|25)\d\d ")
LOCAL = (
    *(("plan", "a.csv", "--table", "T"), ("quota",), ("schema", "show"), ("schema", "export", "T"), ("history",)),
    *(("show", "T"), ("journal", "check"), ("journal", "export")),
)
"""Commands that call no server, but show what earlier ones kept of its answers; T is the table."""


class Place:
    """A team and an empty folder for each example. Sleeps take no time: the clocks of commands and emulator jump ahead instead."""

    def __init__(self, folder, monkeypatch):
        self._folder, self._ahead, self._count = folder, 0.0, 0
        now, monotonic = SystemClock.now, SystemClock.monotonic
        monkeypatch.setattr(SystemClock, "now", lambda clock: now(clock) + self._ahead)
        monkeypatch.setattr(SystemClock, "monotonic", lambda clock: monotonic(clock) + self._ahead)
        monkeypatch.setattr(SystemClock, "sleep", lambda _clock, seconds: self._sleep(seconds))
        for name in [name for name in os.environ if name.startswith(("PUSHENGINE_", "XDG_"))]:
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(folder / "home"))
        monkeypatch.setenv("NO_COLOR", "1")
        monkeypatch.setenv("COLUMNS", "400")
        monkeypatch.setenv("PUSHENGINE_POOL_ID", POOL)
        self._monkeypatch = monkeypatch

    async def _sleep(self, seconds):
        self._ahead += seconds
        await asyncio.sleep(0.001)

    @contextlib.contextmanager
    def opened(self):
        """Start the team."""
        emulated = EmulatorSettings(
            queue_seconds=0.0,
            run_seconds=0.0,
            submits_per_second=1000,
            submits_per_hour=100_000,
            now=SystemClock().now,
        )
        with (
            EmulatorThread(settings=emulated) as self.emulator,
            OddTeam(self.emulator.emulator, SystemClock().now) as self.team,
        ):
            self._monkeypatch.setenv("PUSHENGINE_URL", self.team.url)
            yield self

    def begin(self, odd, *, is_oauth):
        """Begin an example with these oddities: a folder and a table of its own."""
        self.forget_jobs()
        self._count += 1
        self.table = f"T{self._count}"
        folder = self._folder / str(self._count)
        folder.mkdir()
        self._monkeypatch.chdir(folder)
        self._monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(folder / "state"))
        for name, value in (
            ("CLIENT_ID", "client" if is_oauth else None),
            ("CLIENT_SECRET", CLIENT_SECRET if is_oauth else None),
            ("API_KEY", None if is_oauth else SECRET),
        ):
            if value is None:
                self._monkeypatch.delenv(f"PUSHENGINE_{name}", raising=False)
            else:
                self._monkeypatch.setenv(f"PUSHENGINE_{name}", value)
        self.secrets = {*SECRETS} - {SECRET} if is_oauth else {SECRET}
        if any(one.operation == "token" for one in odd):
            self.secrets.discard(TOKEN)  # which only the answer would hold
        for name, rows in (("old.csv", OLD), ("a.csv", ROWS)):
            (folder / name).write_text("ID,NAME\n" + "".join(f"{number},{text}\n" for number, text in rows))
        (folder / "patient.toml").write_text(ENGINE)
        (folder / "impatient.toml").write_text(IMPATIENT)

    def run(self, *words, is_patient=True, form=()):
        """Run a command and check what holds for every command."""
        words = (*words, *form, "--config", "patient.toml" if is_patient else "impatient.toml")
        done = run_command(words)
        shown = (words, done.code, done.out[-1000:], done.err[-3000:])
        assert done.code in CODES, shown
        assert "bug:" not in done.err, shown
        assert "Traceback" not in done.err, shown
        for text in (done.out, done.err):
            assert problem_of(text, is_json=True) is None, (problem_of(text, is_json=True), shown)
            assert not [secret for secret in self.secrets if secret in text], shown
        if "--json" in words:
            json.loads(done.out)
        if "json" in words or os.environ.get("PUSHENGINE_LOG") == "json":
            for line in done.err.splitlines():
                assert isinstance(json.loads(line), dict), shown
        elif done.code and words[0] != "check":
            assert "error: " in done.err, shown
        if UNCHANGED in done.err:
            assert not self.accepted(), shown
        return done

    def push(self, source="a.csv", mode="append", **options):
        key = ("--key", "ID") if mode == "upsert" else ()
        return self.run("push", source, "--table", self.table, "--mode", mode, *key, **options)

    def forget_jobs(self):
        """Delete all jobs of the emulator."""
        self.emulator.emulator.service.jobs.clear()

    def create_job(self):
        """Create a job with a chunk, as another client would."""
        columns = [{"columnName": "ID", "columnType": "INTEGER"}]
        body = {"targetName": "OTHER", "dataPoolId": POOL, "type": "REPLACE", "fileType": "PARQUET"}
        body["tableSchema"] = {"tableName": "OTHER", "columns": columns}
        job = self.emulator.emulator.service.create(POOL, body)
        path = self._folder / job.id
        path.touch()
        self.emulator.emulator.service.add_chunk(
            POOL, job.id, ChunkType.UPSERT, path=path, columns=(), size_bytes=0, checksum="0" * 32
        )
        return job

    def accepted(self):
        """Return the jobs of the table whose submit the platform accepted."""
        jobs = self.emulator.emulator.service.jobs.values()
        return [job for job in jobs if job.spec.target_name == self.table and job.status is not JobStatus.NEW]

    def rows(self):
        found = self.emulator.query("select count(*) from duckdb_tables() where table_name = ?", [self.table])
        return self.emulator.query(f"select ID, NAME from {self.table} order by ID, NAME") if found != [(0,)] else []


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        place = Place(tmp_path_factory.mktemp("place"), monkeypatch)
        with place.opened():
            yield place


HOSTILE_VALUES = st.sampled_from([HOSTILE, UNPAIRED, HOSTILE[:200], "\ud800", 10**400, [HOSTILE] * 50, {"a": HOSTILE}])
PATHS = st.sampled_from(
    [
        *(
            (field,)
            for field in ("id", "status", "logs", "targetName", "type", "lastModified", "checksum", "name", "length")
        ),
        *(
            (field,)
            for field in ("domain", "access_token", "expires_in", "token_type", "scope", "error", "message", "errors")
        ),
        *((-1, field) for field in ("id", "status", "name", "type", "checksum")),
        (),
    ]
)
CHANGES = st.tuples(PATHS, VALUES | HOSTILE_VALUES)
TEXTS_OF_ERRORS = st.dictionaries(
    st.sampled_from(["message", "error", "error_description", "errorCode", "title", "errors", "details", "reference"]),
    HOSTILE_VALUES | st.sampled_from(SECRETS),
    min_size=1,
).map(lambda value: json.dumps(value).encode())
PLAIN = st.builds(
    answer_of,
    st.sampled_from([200, 201, 400, 401, 403, 404, 409, 429, 500, 503]),
    st.just({"Content-Type": "application/json"}),
    JSON | TEXTS_OF_ERRORS,
    st.just(""),
    st.just("right"),
)


def oddity(operation, first, times, answer, is_carried_out, stays):
    is_refusal = isinstance(answer, bytes) and REFUSAL.match(answer) is not None
    return Oddity(operation, first, times, answer, is_carried_out=is_carried_out and not is_refusal, stays=stays)


def oddities(operations):
    return st.lists(
        st.builds(
            oddity,
            st.sampled_from(operations),
            st.sampled_from([0, 0, 0, 1]),
            st.sampled_from([1000, 1, 2]),
            ANSWERS | PLAIN | CHANGES,
            st.booleans(),
            st.booleans(),
        ),
        min_size=1,
        max_size=2,
    )


SHORT, LONG = 4, 2000
FORMS = st.sampled_from([(), ("--json",), ("--log-format", "json"), ("--json", "--log-format", "json")])


def settings_of(count, *, derandomize):
    return settings(
        max_examples=count,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )


MODES = ("append", "replace", "upsert")
PUSH = {
    "form": FORMS,
    "is_oauth": st.booleans(),
    "mode": st.sampled_from(MODES),
    "exists": st.booleans(),
    "resumes": st.booleans(),
    "local": st.sampled_from(LOCAL),
}


def push_ends_well(place, odd, form, is_oauth, mode, *, exists, resumes, local):
    place.begin(odd, is_oauth=is_oauth)
    place.team.be()
    if exists:
        assert place.push("old.csv").code == 0
        place.forget_jobs()
    place.team.be(*odd)
    codes = [place.push(mode=mode, is_patient=False, form=form).code]
    if codes != [0] and resumes:
        codes.append(place.run("resume", is_patient=False, form=form).code)
    place.team.be()
    place.run(*(place.table if word == "T" else word for word in local))
    if EXIT_OUTCOME_UNKNOWN in codes:
        return
    expected = sorted((OLD if exists and mode == "append" else []) + ROWS)
    if codes[-1] or (
        codes != [0] and place.rows() != expected
    ):  # `resume` exits with 0 also if there is nothing to resume
        again = place.push(mode=mode)
        assert again.code == 0, again.err
    assert place.rows() == expected, codes


PUSH_CALLS = [name for name in OPERATIONS if name not in ("team", "list")]


@pytest.mark.parametrize("operation", PUSH_CALLS)
def test_a_push_and_what_follows(place, operation):
    drawn = PUSH | {"odd": oddities([operation])}
    given(**drawn)(settings_of(SHORT, derandomize=True)(lambda **drawn: push_ends_well(place, **drawn)))()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_more_pushes(place):
    drawn = PUSH | {"odd": oddities(PUSH_CALLS)}
    given(**drawn)(settings_of(LONG, derandomize=False)(lambda **drawn: push_ends_well(place, **drawn)))()


# --- Commands that call a server and push nothing

CALLS = {
    ("check",): ("token", "team", "list"),
    ("jobs", "list"): ("token", "list"),
    ("jobs", "show", "J"): ("token", "get", "chunks"),
    ("jobs", "delete", "J"): ("token", "get", "delete"),
}
"""Each command, with J for the id of a job, and the operations that it calls."""
ASKED = st.sampled_from(list(CALLS)).flatmap(lambda words: st.tuples(st.just(words), oddities(CALLS[words])))
COMMAND = {
    "asked": ASKED,
    "form": st.sampled_from([(), ("--json",)]),
    "is_oauth": st.booleans(),
    "is_log": st.booleans(),
}


def command_ends_well(place, monkeypatch, asked, form, *, is_oauth, is_log):
    words, odd = asked
    place.begin(odd, is_oauth=is_oauth)
    job = place.create_job()
    words = [job.id if word == "J" else word for word in words]
    monkeypatch.setenv("PUSHENGINE_LOG", "json" if is_log else "console")
    place.team.be(*odd)
    done = place.run(*words, is_patient=False, form=form)
    if "is deleted" in done.out:
        assert "delete" in place.team.calls
    place.team.be()
    assert place.run("check").code == 0


def test_other_commands(place, monkeypatch):
    given(**COMMAND)(
        settings_of(8 * SHORT, derandomize=True)(lambda **drawn: command_ends_well(place, monkeypatch, **drawn))
    )()


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_more_of_the_other_commands(place, monkeypatch):
    given(**COMMAND)(
        settings_of(LONG, derandomize=False)(lambda **drawn: command_ends_well(place, monkeypatch, **drawn))
    )()


# --- Memory

MEMORY = 128 * 1024 * 1024
"""What a list of jobs may take by itself, too."""
JOB = b'{"id": "J", "status": "NEW", "name": "%s", "logs": ["%s"]}' % (b"N" * 100, b"L" * 100)
BODIES = {
    "blanks": lambda: BOMB,
    "a list of jobs": lambda: gzip.compress(b"[" + (JOB + b",") * 600_000 + b"{}]", 1),
    "one job": lambda: gzip.compress(JOB[:-1] + b" " * 300_000_000 + b"}", 1),
}
CALLERS = {"push": ("push", "a.csv", "--table", "T", "--mode", "append"), **{" ".join(words): words for words in CALLS}}
BRIEF = {("push", "blanks", 200), ("jobs list", "a list of jobs", 200)}
MEASURED = """
import re, sys
from pathlib import Path
from pushengine.cli.app import main
code = main()
Path("peak").write_text(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""
"""A command that writes its peak memory, KiB, into a file. That of a child as its parent sees it includes the parent's before `exec`."""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("command", "body", "status"),
    [
        pytest.param(command, body, status, marks=[] if (command, body, status) in BRIEF else pytest.mark.slow)
        for command in CALLERS
        for body in BODIES
        for status in (200, 500)
    ],
)
def test_compressed_bombs_take_no_more_memory_than_the_formula(place, command, body, status):
    """Each answer is hundreds of megabytes, of which the client sees a few."""
    place.begin([], is_oauth=False)
    Path("c.toml").write_text(f"[engine]\nmax_attempts = 1\nmax_memory_bytes = {MEMORY}\n")
    answer = answer_of(status, {"Content-Encoding": "gzip"}, BODIES[body](), "", "right")
    place.team.be(*(Oddity(name, 0, 10**9, answer) for name in OPERATIONS))
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *CALLERS[command], "--config", "c.toml"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        check=False,
    )
    assert done.returncode in CODES, done.stderr
    assert int(Path("peak").read_text()) * 1024 < 150_000_000 + MEMORY
