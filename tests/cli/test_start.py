"""Startup is fast: no heavy module is imported before a command needs it."""

import subprocess
import sys

import pytest

HEAVY = ("pyarrow", "aiohttp", "duckdb", "pydantic", "rich", "structlog", "sqlite3", "tomllib", "ssl")


@pytest.mark.parametrize(
    ("code", "allowed"),
    [
        ("import pushengine", ()),
        ("from pushengine.__main__ import main; import sys; sys.argv = ['pushengine', '--help']; main()", ("ssl",)),
        (
            "from pushengine.__main__ import main; import sys; sys.argv = ['pushengine', 'push', '--help']; main()",
            ("ssl", "pydantic"),  # typer itself imports it for options with choices
        ),
        ("from pushengine.__main__ import main; import sys; sys.argv = ['pushengine', '--version']; main()", ("ssl",)),
    ],
    ids=["import", "help", "push-help", "version"],
)
def test_no_heavy_module_is_imported(code, allowed):
    probe = (
        f"{code}\nimport sys; print([m for m in {HEAVY} if m in sys.modules and m not in {allowed}], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_help_names_every_command_and_no_other(pushengine):
    done = pushengine("--help")
    assert done.code == 0
    listed = done.out.partition("Commands:")[2].partition("Exit codes")[0]
    assert [line.split()[0] for line in listed.splitlines() if line.strip()] == [
        "demo",
        "init",
        "push",
        "plan",
        "load",
        "resume",
        "history",
        "show",
        "resolve",
        "report",
        "check",
        "emulator",
        "help",
        "completion",
        "quota",
        "jobs",
        "schema",
        "state",
        "journal",
        "config",
    ]


def test_push_help_names_every_option(pushengine):
    text = pushengine("push", "--help").out
    for option in (
        *("SOURCE", "--table", "--mode", "--key", "--connection", "--format", "--json", "--quiet", "--config"),
        *("--emulator [DATABASE]", "--dry-run", "--url", "--pool", "--column", "--log-format"),
        *("--columns", "--rename", "--select", "--exclude", "--drift", "--new-columns", "--missing-columns", "--types"),
        *("--duplicate-keys", "--order-by", "--allow-empty", "--min-rows", "--max-drop"),
    ):
        assert option in text


def test_version(pushengine):
    from pushengine import __version__

    done = pushengine("--version")
    assert (done.code, done.out) == (0, f"pushengine {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [("lode",), ("push", "a.csv"), ("push", "a", "--table", "T", "--mode", "merge"), ("--nope",)]
)
def test_a_usage_error_has_exit_code_2_and_a_message_on_stderr(pushengine, arguments):
    done = pushengine(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Error" in done.err


def test_the_hint_for_a_push_without_a_team_suggests_the_embedded_emulator(pushengine, orders):
    done = pushengine("push", orders, "--table", "T")
    assert done.code == 2
    assert "set PUSHENGINE_URL" in done.err
    assert "without a team, push into the embedded emulator: --emulator" in done.err
    assert "emulator" not in pushengine("check").err
