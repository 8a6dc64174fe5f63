"""Whatever config files, variables and words a command gets, it ends with a documented exit code and prints no control characters."""

import contextlib
import io
import os
import re
import string
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from support.toml_text import toml_of

from pushengine.cli import app, session
from pushengine.config.csv_settings import CsvSettings
from pushengine.config.load import ConfigFile, Flags, load_config
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError

CODES = {0, 2, 3, 4, 6, 75}
RAW = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
HUGE = "x" * 1_000_000
EXAMPLES = int(os.environ.get("HOSTILE_SETTINGS", "20"))
hostile = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=EXAMPLES)

NOT_UTF8 = st.binary(min_size=1, max_size=8).map(lambda raw: raw.replace(b"\0", b"").decode("utf-8", "surrogateescape"))
ODD = st.sampled_from(
    [
        "", "-", "--", "---", "=", "-x", "--json", "--=", "~", "~nobody-", "/", "/dev/null", ".", "..", "*", "**", "[", "{}",
        "\x1b[31m", "a\nb", "\r", "\u202e", "%s", "0", "-1", "1e999", "nan", "inf", "9" * 400, "x" * 5000, "a=b", "=b", "a=",
        "T=STRING(99999999999)", "T=STRING(-1)", "http://[", "http://a:99999", "https://x@y", "é", "😀", "a/b", "a.csv",
        "none/b.csv", "s3://b/k", "file:///x", "conf.toml", "out.duckdb", "CON",
    ]
)  # fmt: skip
WORD = st.one_of(ODD, NOT_UTF8, st.text(max_size=12).map(lambda text: text.replace("\0", "")))


@pytest.fixture(autouse=True)
def place(tmp_path_factory, monkeypatch):
    """An empty folder with a home and a state folder, and no network or emulator that would wait."""
    folder = tmp_path_factory.mktemp("place")
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("PUSHENGINE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder / "home"))
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(folder / "state"))
    monkeypatch.setenv("COLUMNS", "200")
    (folder / "a.csv").write_text("A,B\n1,2\n2,x\n")
    (folder / "conf.toml").write_text("")

    @contextlib.asynccontextmanager
    async def refused(*_args, **_options):
        raise ConfigError("no emulator here", key="emulator")
        yield

    monkeypatch.setattr(session, "open_emulator", refused)
    monkeypatch.setattr(session, "open_engine", lambda *_args, **_options: _refuse())
    return folder


def _refuse():
    raise ConfigError("no engine here", key="engine")


def run(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = app.main(list(words))
        except SystemExit as exit_:
            code = exit_.code
    assert code in CODES, (code, err.getvalue()[-2000:])
    assert "Traceback" not in err.getvalue()
    assert "bug:" not in err.getvalue()
    for text in (out.getvalue(), err.getvalue()):
        found = RAW.search(text)
        assert found is None, (found[0], text[max(0, found.start() - 80) : found.start() + 80])
    return code, out.getvalue(), err.getvalue()


# --- Config files -----------------------------------------------------------------------------------------------------------------------

KEYS = [(name, key) for name, section in ConfigFile.model_fields.items() for key in (section.annotation.model_fields)]
VALUES = st.recursive(
    st.one_of(
        st.integers(),
        st.integers(min_value=-(10**400), max_value=10**400),
        st.floats(),
        st.booleans(),
        WORD,
        st.datetimes(),
        st.dates(),
        st.times(),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=5,
)


def config_of(content):
    Path("conf.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
    try:
        load_config(Flags(config=Path("conf.toml")), {})
    except ConfigError as error:
        assert len(str(error)) < 5000
        assert "Input" not in error.message
        assert "pathlib" not in error.message
        assert error.hint
        return error
    return None


@hostile
@given(st.lists(st.tuples(st.sampled_from(KEYS), VALUES), min_size=1, max_size=3, unique_by=lambda item: item[0]))
@example([(("engine", "history_days"), 10**400)])
@example([(("engine", "submits_per_second"), 10**400)])
@example([(("engine", "read_timeout_seconds"), float("inf"))])
@example([(("engine", "ca_file"), "a\0b")])
@example([(("state", "dir"), "a\0b")])
@example([(("state", "dir"), "~nobody-")])
@example([(("connection", "url"), HUGE)])
@example([(("csv", "encoding"), HUGE)])
@example([(("csv", "encoding"), "a\0b")])
@example([(("engine", "rejects"), HUGE)])
@example([(("auth", "api_key_file"), HUGE)])
@example([(("auth", "api_key"), HUGE)])
def test_values_of_every_key(items):
    sections = {}
    for (section, key), value in items:
        sections.setdefault(section, []).append(f"{key} = {toml_of(value)}")
    config_of("\n".join(line for name, lines in sections.items() for line in (f"[{name}]", *lines)))
    run("history", "--config", "conf.toml")
    run("plan", "a.csv", "--table", "T", "--config", "conf.toml")


@hostile
@given(st.binary(max_size=200) | st.text(alphabet=string.printable, max_size=200).map(str.encode))
@example(b"a = " + b"[" * 100_000)
@example(b"a = " + b"{a=" * 20_000)
@example(b"[" + b"a." * 20_000 + b"a]\n")
@example(b"".join(b"k%d = 1\n" % number for number in range(20_000)))
@example(b"a" * 1_000_000 + b" = 1")
@example(b'"' + b"\\u001b" * 1000 + b'" = 1')
@example(b"a = " + b"9" * 10_000)
@example(b"\xef\xbb\xbf[engine]")
def test_any_content(content):
    config_of(content)
    run("history", "--config", "conf.toml")


@hostile
@given(st.sampled_from(sorted(CsvSettings.model_fields)), st.one_of(st.integers(), st.just(10**400), st.floats(), WORD))
def test_settings_of_text_files_from_the_command_line(key, value):
    run("plan", "a.csv", "--table", "T", f"--{key.replace('_', '-')}", str(value)[:10_000].replace("\0", ""))


# --- The environment --------------------------------------------------------------------------------------------------------------------

VARIABLES = [
    "CONFIG", "URL", "POOL_ID", "CONNECTION_ID", "LOG", "STATE_DIR", "CLIENT_ID", "CLIENT_SECRET", "CLIENT_SECRET_FILE", "SCOPE",
    "API_KEY", "API_KEY_FILE", "APP_KEY", "APP_KEY_FILE", "DEBUG", "OTHER",
]  # fmt: skip


@hostile
@given(st.dictionaries(st.sampled_from(VARIABLES), WORD | st.just(HUGE[:100_000]), min_size=1, max_size=3))
@example({"URL": HUGE[:100_000]})
@example({"STATE_DIR": "~nobody-"})
@example({"CONFIG": "~nobody-"})
def test_variables(variables):
    variables.pop("DEBUG", None)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in variables.items():
            patched.setenv(f"PUSHENGINE_{name}", value)
        for words in (["history"], ["jobs", "list"], ["plan", "a.csv", "--table", "T"], ["schema", "show"]):
            run(*words)


# --- Command lines ----------------------------------------------------------------------------------------------------------------------


def _commands(group, words=()):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _commands(command, (*words, name))
        else:
            yield (*words, name), [option for one in command.params for option in one.opts if option.startswith("-")]


COMMANDS = list(_commands(typer.main.get_command(app.app)))


@hostile
@given(st.data())
def test_any_words(data):
    words, options = data.draw(st.sampled_from(COMMANDS))
    assume(words != ("demo",))
    options = options or ["--help"]
    one = st.one_of(
        WORD,
        st.sampled_from(options),
        st.tuples(st.sampled_from(options), WORD).map("=".join),
        st.just("a.csv"),
    )
    run(*words, *data.draw(st.lists(one, max_size=6)))


@hostile
@given(st.sampled_from(["push", "plan"]), st.data())
def test_options_of_a_push(command, data):
    options = dict(COMMANDS)[(command,)]
    drawn = data.draw(st.lists(st.tuples(st.sampled_from(options), WORD).map("=".join), max_size=3))
    run(command, "a.csv", "--table", "T", *drawn)


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS if words != ("demo",)], ids=" ".join)
def test_a_huge_word(words):
    for one in (HUGE, f"--{HUGE}", f"--config={HUGE}", f"--column={HUGE}=INTEGER", f"--table={HUGE}", f"--pool={HUGE}"):
        _, out, err = run(*words, one)
        assert len(out) + len(err) < 10_000, (one[:20], len(out), len(err))
    run(HUGE)


# --- Memory -----------------------------------------------------------------------------------------------------------------------------

MANY = {
    "config of lists": (b"a = [" + b"[]," * 1_300_000 + b"]", ("history", "--config", "big.toml")),
    "config of keys": (
        b"".join(b"k%d = 1\n" % number for number in range(300_000)),
        ("history", "--config", "big.toml"),
    ),
    "config that is too large": (b"#" * 200_000_000, ("history", "--config", "big.toml")),
    "columns": (b"#" * 200_000_000, ("push", "a.csv", "--table", "T", "--columns", "big.toml", "--emulator")),
    "nested": (b"a = " + b"[" * 4_000_000, ("history", "--config", "big.toml")),
}


@pytest.mark.skipif(sys.platform != "linux", reason="needs the memory of one child in KiB")
@pytest.mark.parametrize("case", MANY)
def test_memory_stays_within_the_formula(place, case):
    content, words = MANY[case]
    (place / "big.toml").write_bytes(content)
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    # The child reads its own peak: `ru_maxrss` begins with the size of the process that started it.
    code = """
import atexit, re, sys
from pathlib import Path
from pushengine.__main__ import main
atexit.register(lambda: Path("peak").write_text(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]))
sys.exit(main())
"""
    child = subprocess.run([sys.executable, "-c", code, *words], env=env, capture_output=True, check=False, timeout=120)
    assert child.returncode == 2, child.stderr[-1000:]
    assert int(Path("peak").read_text()) * 1024 < 150_000_000 + EngineSettings().max_memory_bytes
