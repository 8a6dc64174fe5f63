"""Foreign texts on their way to a terminal: each field of each command, with and without a terminal."""

import json
import random
import sqlite3
import time

import pytest
import typer.main
from support.command_line import CommandLine
from support.hostile import FORGED, HOSTILE, HUGE, UNPAIRED, problem_of, run_command
from support.hostile_team import HostileTeam, error_body

from pushengine import redaction
from pushengine.cli import app
from pushengine.text import storable

pytestmark = pytest.mark.timeout(300)  # many commands a test
POOL = "pool-1"


@pytest.fixture(
    params=["either", pytest.param("pipe", marks=pytest.mark.slow), pytest.param("terminal", marks=pytest.mark.slow)]
)
def run(request, tmp_path, monkeypatch):
    """Return a function that runs a command, checks what it printed, and returns its result.

    Half of the commands have a terminal; the long form runs each of them both ways.
    """
    rng = random.Random(7)
    CommandLine(tmp_path, monkeypatch)
    monkeypatch.setattr(
        redaction, "_secrets", set()
    )  # secrets of other tests of this process may be hostile texts, too
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "2000")
    monkeypatch.delenv("NO_COLOR")

    def run(*words, is_terminal=None):
        if is_terminal is None:
            is_terminal = rng.random() < 0.5 if request.param == "either" else request.param == "terminal"
        done = run_command([str(word) for word in words], is_terminal=is_terminal)
        for text in (done.out, done.err):
            if "--json" not in words or text is done.err:
                assert (words, problem_of(text, is_terminal=is_terminal, is_json="json" in words)) == (words, None)
        return done

    return run


@pytest.fixture
def team(pushengine_emulator_thread, monkeypatch):
    with HostileTeam(pushengine_emulator_thread.url) as team:
        monkeypatch.setenv("PUSHENGINE_URL", team.url)
        monkeypatch.setenv("PUSHENGINE_POOL_ID", POOL)
        monkeypatch.setenv("PUSHENGINE_API_KEY", "test-key-1")
        yield team


def write_orders(folder, name="orders.csv"):
    (folder / name).write_text("ID,NAME\n0001,one\n0002,two\n")
    return name


def test_texts_of_a_team_in_every_command(run, team, tmp_path):
    orders = write_orders(tmp_path)
    done = run("push", orders, "--table", "T")
    assert done.code == 0, done.err
    assert FORGED in done.out  # the job's log is shown, on one line each
    exact = run("push", orders, "--table", "T", "--json", is_terminal=False).json
    assert exact["job_id"].startswith(HOSTILE)
    assert exact["job_logs"][0] == storable(UNPAIRED)  # JSON has it exactly, but for what is no text
    (first, *_) = run("jobs", "list", "--json", is_terminal=False).json["jobs"]
    assert first["id"].startswith(HOSTILE)
    assert first["logs"][0] == storable(UNPAIRED)
    for words in (
        ("jobs", "list"),
        ("jobs", "show", first["id"]),
        ("jobs", "delete", first["id"]),
        ("jobs", "delete", first["id"]),
        ("history",),
        ("show", "T"),
        ("show", exact["push_id"]),
        ("schema", "show"),
        ("check",),
        ("quota",),
        ("journal", "check"),
    ):
        run(*words)
    (logged, *_) = [
        line
        for line in map(
            json.loads, run("push", orders, "--table", "T", "--log-format", "json", is_terminal=False).err.splitlines()
        )
        if line["event"] == "job_settled"
    ]
    assert logged["logs"][0] == storable(UNPAIRED)


@pytest.mark.parametrize("status", [200, 400, 401, 404, 500])
def test_errors_of_a_team_in_every_command(run, team, tmp_path, status, monkeypatch):
    monkeypatch.setenv("PUSHENGINE_DEBUG", "1")
    (tmp_path / "c.toml").write_text(
        "[engine]\nmax_attempts = 2\nretry_max_wait_seconds = 0.1\nconflict_wait_seconds = 0.1\njob_deadline_seconds = 1.0\n"
        "[log]\nlevel = 'debug'\n"
    )
    monkeypatch.setenv("PUSHENGINE_CONFIG", str(tmp_path / "c.toml"))
    orders, body = write_orders(tmp_path), error_body()
    for number, failing in enumerate(
        (
            lambda _method, _path: True,
            lambda _method, path: path.endswith("/upserted"),
            lambda method, path: method == "POST" and path.count("/jobs/") and path.rstrip("/").count("/") == 7,
        )
    ):
        team.failing = lambda method, path, fails=failing: (status, body) if fails(method, path) else None
        run("push", orders, "--table", f"T{number}")
        run("resume")
        run("history")
        run("show", f"T{number}")
    team.failing = lambda _method, _path: (status, body)
    for words in (("jobs", "list"), ("jobs", "show", "j"), ("jobs", "delete", "j"), ("check",), ("quota",)):
        run(*words)
    run("quota", "reset")


def commands(command, words=()):
    """Yield the words and the parameters of each command."""
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from commands(child, (*words, name))
    if not children or words == ("quota",):
        yield words, command


EVERY = dict(commands(typer.main.get_command(app.app)))


def parameters(named):
    """Yield the words of commands with a hostile text in one of their fields."""
    for words, command in named:
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        needed = ["--table", "T"] if any("--table" in one.opts for one in command.params) else []
        values = ["orders.csv" if one.name in ("sources", "file") else "x" for one in arguments if one.required]
        for option in (one for one in command.params if one.param_type_name == "option" and not one.is_flag):
            yield [*words, *values, *needed, option.opts[0], HOSTILE]
            yield [*words, *values, *needed, f"{option.opts[0]}={HUGE}"]
        for text in (HOSTILE, UNPAIRED):
            yield [*words, *[text] * max(len(arguments), 1), *needed]
            yield [*words, *values, *needed, f"--{text}"]
            yield [*words, *values, *needed, "--mode", text]
        yield [*words, *values, *needed, "--json", "--column", f"{HOSTILE}=TEXT"]
    yield [HOSTILE]
    yield ["push", HUGE, "--table", "T", "--log-format", HOSTILE]


@pytest.mark.parametrize("part", range(8))
def test_words_of_every_command(run, tmp_path, part):
    write_orders(tmp_path)
    for words in list(parameters(EVERY.items()))[part::8]:
        if words[0] == "emulator":
            words += ["--faults", "missing.json"]  # without an error it would run on
        embedded = ["--emulator"] if words[0] == "push" and "--emulator" not in words[-2] else []
        run(words[0], *embedded, *words[1:])


def test_names_and_values_of_sources(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PUSHENGINE_DEBUG", "1")
    name = HOSTILE[:70].replace("/", "") + "\udce4" + ".csv"
    column = '"' + HOSTILE.replace('"', "") + '"'
    folder = tmp_path / HOSTILE[:40].replace("/", "")
    folder.mkdir()
    orders = "orders.csv"
    for path, text in (
        (tmp_path / name, "ID,NAME\n1,one\n"),
        (folder / name, "ID,NAME\n1,one\n2\n"),
        (tmp_path / "columns.csv", f"ID,{column},X\n1,{column},{HUGE.encode('ascii', 'backslashreplace').decode()}\n"),
        (tmp_path / "dates.csv", f"ID,X\n1,2\n{column},5\n"),
        (tmp_path / "long.csv", f"ID,X\n1,{'A' * 100_000}\n" + f"2,{column}\n"),
        (tmp_path / "title.csv", f"{HOSTILE}\nID,X\n1,2\n3\n"),
        (tmp_path / orders, "ID,NAME\n1,one\n"),
    ):
        path.write_text(text, encoding="utf-8", errors="surrogateescape", newline="")
        for words in (
            ("plan", path, "--table", HOSTILE),
            ("plan", path, "--table", "T"),
            ("push", path, "--table", "T", "--emulator", "out.duckdb"),
            ("push", path, "--table", "T", "--emulator", "out.duckdb", "--mode", "append"),
            ("push", path, "--table", "T", "--column", "ID=INTEGER", "--emulator", "out.duckdb", "--max-rejects", "1"),
            ("push", path, "--table", f"T{HOSTILE}", "--emulator"),
            ("push", path, "--table", "T", "--mode", "upsert", "--key", HOSTILE.replace('"', ""), "--emulator"),
        ):
            run(*words)
    run("push", tmp_path / (name + "x"), "--table", "T", "--emulator")
    run("schema", "show", "--emulator", "out.duckdb")
    run("push", orders, "--table", "T", "--emulator", f"{HOSTILE[:60]}.duckdb".replace("/", ""))
    run("demo", "--cases", "5", "--database", f"{HOSTILE[:60]}2.duckdb".replace("/", ""))
    run("emulator", "--database", "orders.csv", "--faults", name)


def test_settings_in_config_files_and_the_environment(run, tmp_path, monkeypatch):
    orders = write_orders(tmp_path)
    quoted = json.dumps(HOSTILE).replace("\x7f", "\\u007f")
    commands = (
        ("push", orders, "--table", "T"),
        ("check",),
        ("history",),
        ("jobs", "list"),
        ("quota",),
        ("plan", orders, "--table", "T"),
    )
    for text in (
        f"{quoted} = 1\n",
        f"[engine]\n{quoted} = 1\n",
        f"[connection]\nurl = {quoted}\npool_id = {quoted}\n[auth]\napi_key = {quoted}\n",
        f"[connection]\nurl = 'http://127.0.0.1:9'\npool_id = {quoted}\n[auth]\napi_key_file = {quoted}\n",
        f"[auth]\nclient_id = {quoted}\n",
        f"[log]\nformat = {quoted}\n",
        f"[engine]\nca_file = {quoted}\n",
        f'[state]\ndir = {quoted[:-1]}/x"\n',
        f"[csv]\ndelimiter = {quoted}\nencoding = {quoted}\nnull = [{quoted}]\n",
        HOSTILE.replace("\n", "\r"),
    ):
        path = tmp_path / f"{HOSTILE[:40]}.toml".replace("/", "")
        path.write_text(text, encoding="utf-8", newline="")
        for words in commands:
            run(*words, "--config", path)
    for name in (
        "URL",
        "POOL_ID",
        "CONNECTION_ID",
        "CONFIG",
        "LOG",
        "CLIENT_ID",
        "CLIENT_SECRET_FILE",
        "API_KEY",
        "STATE_DIR",
    ):
        with monkeypatch.context() as context:
            context.setenv(f"PUSHENGINE_{name}", HOSTILE)
            for words in commands:
                run(*words)


def leaves(value, path=()):
    """Yield the path of each text in a JSON value."""
    if isinstance(value, str):
        yield path
    for name, inner in (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    ):
        yield from leaves(inner, (*path, name))


def replaced(value, path, text):
    """Return the JSON value with another text at a path."""
    if not path:
        return text
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], text)
    return copy


def test_content_of_the_journal_and_the_ledger(run, tmp_path, monkeypatch):
    orders = write_orders(tmp_path)
    run("push", orders, "--table", "T", "--mode", "upsert", "--key", "ID", "--emulator", "out.duckdb")
    state = tmp_path / "out.duckdb.state"
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(state))
    with sqlite3.connect(state / "journal.sqlite3") as db:
        rows = db.execute("SELECT seq, body FROM facts").fetchall()
        for seq, body in rows:
            fact = json.loads(body)
            for path in leaves(fact):
                text = HUGE if len(path) % 2 else UNPAIRED
                db.execute("UPDATE facts SET body = ? WHERE seq = ?", (json.dumps(replaced(fact, path, text)), seq))
                db.commit()
                run("show", "T")
            run("history")
            run("resume")
            db.execute("UPDATE facts SET body = ? WHERE seq = ?", (body, seq))
        for final in ("open", "failed", "unknown", HOSTILE):
            for name in ("team", "pool_id", "target", "source", "push_id"):
                push = db.execute("SELECT * FROM pushes").fetchone()
                db.execute(f"UPDATE pushes SET state = ?, {name} = ?", (final, HUGE))
                if name == "push_id":
                    db.execute("UPDATE facts SET push_id = ?", (HUGE,))
                db.commit()
                run("history")
                run("show", HUGE if name in ("target", "push_id") else "T")
                run("journal", "check")
                db.execute(
                    "UPDATE pushes SET push_id=?, identity=?, team=?, pool_id=?, target=?, source=?, created_at=?, updated_at=?, state=?",
                    push,
                )
                db.execute("UPDATE facts SET push_id = ?", (push[0],))
        for name in ("team", "pool_id", "connection_id", "name"):
            db.execute(f"UPDATE tables SET {name} = ?", (HUGE,))
            db.commit()
            run("schema", "show")
            run("schema", "forget", "T")
            run("schema", "export", "T", "--output", tmp_path / f"{name}.toml")
        db.execute("UPDATE tables SET body = ?", (HUGE,))
        db.commit()
        run("schema", "show")
    with sqlite3.connect(state / "quota.sqlite3") as db:
        far = time.time() + 600
        db.execute("INSERT OR REPLACE INTO blocks VALUES ('127.0.0.1:1', ?, ?, ?, 1, ?)", (far, far, time.time(), HUGE))
    run("quota", "--url", "http://127.0.0.1:1")
    run("quota", "reset", "--url", "http://127.0.0.1:1")
