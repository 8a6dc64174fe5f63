"""`pushengine help`, the examples of `--help`, and completion in bash."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from pushengine.cli.app import app
from pushengine.cli.help.completion import SCRIPTS, candidates
from pushengine.cli.help.pages import TOPICS

HEAVY = ("pyarrow", "aiohttp", "duckdb", "rich", "structlog", "sqlite3")


def test_help_lists_the_topics(pushengine):
    done = pushengine("help")
    assert done.code == 0
    assert [line.split()[0] for line in done.out.splitlines() if line.startswith("  ")] == list(TOPICS)


def test_help_prints_markdown_into_a_pipe(pushengine):
    done = pushengine("help", "Exit-Codes")
    assert done.code == 0
    assert done.out.startswith("# Exit codes\n")
    assert "| 130 | interrupted" in done.out


def test_unknown_topic_is_a_usage_error_with_a_suggestion(pushengine):
    done = pushengine("help", "loats")
    assert done.code == 2
    assert "no topic loats (did you mean loads?)" in done.err
    assert "first-steps" in done.hint


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal")
def test_help_is_rendered_on_a_terminal(environment):
    """A table has lines there, and the pager shows it."""
    master, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "pushengine", "help", "exit-codes"],
        stdout=terminal,
        stderr=terminal,
        stdin=subprocess.DEVNULL,
        env=environment
        | {"PYTHONPATH": str(Path(__file__).parents[2]), "PAGER": "cat", "COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(terminal)
    out = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not piece:
            break
        out += piece
    os.close(master)
    assert process.wait(30) == 0
    text = out.decode()
    assert "| code |" not in text
    assert "interrupted" in text
    assert max(map(len, text.splitlines())) <= 80


def _help_of_all(command, words=()):
    children = getattr(command, "commands", {})
    for name, child in children.items():
        yield from _help_of_all(child, (*words, name))
    if words and not (children and not command.invoke_without_command):
        yield " ".join(words), command


@pytest.mark.parametrize("words", [words for words, _ in _help_of_all(typer.main.get_command(app))])
def test_help_of_every_command_ends_with_examples(words):
    command = dict(_help_of_all(typer.main.get_command(app)))[words]
    with command.make_context(f"pushengine {words}", [], resilient_parsing=True) as context:
        text = command.get_help(context)
    examples = text.partition("\nExample")[2].splitlines()[1:]
    assert examples
    assert all("pushengine " in line for line in examples)


# --- Completion ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def installed(environment, tmp_path):
    """Return an environment in which `pushengine` is on the path."""
    (tmp_path / "bin").mkdir()
    shim = tmp_path / "bin" / "pushengine"
    shim.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pushengine "$@"\n')
    shim.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    return environment | {"PATH": path, "PYTHONPATH": str(Path(__file__).parents[2])}


def complete(*words):
    return candidates(typer.main.get_command(app), words)


def test_commands_options_and_values_are_completed():
    assert complete("pu") == ["push"]
    assert complete("schema", "") == ["show", "export", "import", "forget"]
    assert complete("push", "--mo") == ["--mode"]
    assert complete("push", "x.csv", "--mode", "") == ["replace", "append", "upsert", "delete"]
    assert complete("push", "--mode=up") == ["--mode=upsert"]
    assert complete("push", "--mode", "=", "up") == ["upsert"]
    assert complete("push", "--mode", "=") == ["replace", "append", "upsert", "delete"]
    assert complete("help", "lo") == ["loads"]
    assert complete("completion", "") == ["bash", "zsh", "fish"]


def test_files_are_left_to_the_shell():
    assert complete("push", "ord") == []
    assert complete("push", "--config", "c") == []
    assert complete("push", "--table", "") == []
    assert complete("nothing", "x", "y") == []
    assert "push" in complete()


def test_names_of_loads_come_from_the_config_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("PUSHENGINE_CONFIG", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert complete("config", "show", "") == []
    (tmp_path / "pushengine.toml").write_text(
        '[[load]]\nname = "sap"\n[load.tables.VBAP]\nmode = "upsert"\n[[load]]\nname = "events"\n'
    )
    assert complete("config", "show", "s") == ["sap", "sap.VBAP"]
    (tmp_path / "other.toml").write_text('[[load]]\nname = "other"\n')
    assert complete("config", "show", "--config", "other.toml", "") == ["other"]
    for odd in ("[[load", "load = 3", "load = [3]", "[[load]]\nname = 3\ntables = 4"):
        (tmp_path / "pushengine.toml").write_text(odd)
        complete("config", "show", "")


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (["pu"], ["push"]),
        (["push", "--dr"], ["--drift", "--dry-run"]),
        (["push", "a.csv", "--mode", "="], ["replace", "append", "upsert", "delete"]),
        (["push", "or"], []),
        ([""], ["demo"]),
    ],
)
def test_bash_completes_with_the_script(line, expected, installed, tmp_path, pushengine):
    script = pushengine("completion", "bash")
    assert script.code == 0
    words = " ".join(f"'{word}'" for word in ["pushengine", *line])
    body = (
        f"{script.out}\ncomplete -p pushengine >/dev/null\nCOMP_WORDS=({words}); COMP_CWORD={len(line)}\n"
        '_pushengine pushengine; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", body],
        env=installed,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    found = done.stdout.split()
    assert found == expected or (line == [""] and "demo" in found and "completion" in found)


ZSH = """
compdef() { :; }
compadd() { print -l -- "${@:2}"; }
_files() { print FILES; }
eval "$(pushengine completion zsh)"
words=(%s); CURRENT=$#words; _pushengine
"""
FISH = """
pushengine completion fish | source
complete -C "%s"
"""


@pytest.mark.parametrize(("shell", "script"), [("zsh", ZSH), ("fish", FISH)])
@pytest.mark.parametrize(("line", "expected"), [("pushengine hist", "history"), ("pushengine help lo", "loads")])
def test_zsh_and_fish_complete_with_the_script(shell, script, line, expected, installed, tmp_path):
    if not shutil.which(shell):
        pytest.skip(f"needs {shell}")
    done = subprocess.run(
        [shell, *(["-f"] if shell == "zsh" else ["--no-config"]), "-c", script % line],
        env=installed,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout.split(), done.stderr) == ([expected], "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_scripts_are_printed(shell, pushengine):
    done = pushengine("completion", shell)
    assert done.code == 0
    assert "_PUSHENGINE_COMPLETE=1" in done.out


def test_completion_imports_no_heavy_module():
    probe = (
        "from pushengine.__main__ import main; import sys; sys.argv = ['pushengine', 'pu']; main();"
        f" print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", probe],
        env=os.environ | {"_PUSHENGINE_COMPLETE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("push\n", "[]\n")
