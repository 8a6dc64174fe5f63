"""The command on a real terminal of 80 columns and 24 lines."""

import contextlib
import fcntl
import os
import re
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from rich.cells import cell_len

_ROOT = Path(__file__).parents[2]
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_LONG = "TABELLE_MIT_EINEM_SEHR_LANGEN_NAMEN_" * 4
_PROBE = """
import io, sys
from pushengine.cli import app

class Terminal(io.StringIO):
    def isatty(self):
        return True
    def write(self, text):
        if not heavy:
            heavy.append([m for m in ("pyarrow", "aiohttp", "duckdb", "rich.console", "structlog", "sqlite3") if m in sys.modules])
            heavy.append(text)
        return super().write(text)

heavy = []
sys.stderr = Terminal()
app.main(sys.argv[1:])
sys.stderr = sys.__stderr__
print(heavy)
"""


@pytest.fixture
def on_terminal(environment, tmp_path):
    """Return a function that runs `pushengine` on a terminal of 80 x 24 and returns its exit code and all that it wrote."""

    def run(*words, columns=80, lines=24):
        master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        kept = {name: value for name, value in environment.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        process = subprocess.Popen(
            [sys.executable, "-m", "pushengine", *map(str, words)],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=tmp_path,
            env=kept | {"PYTHONPATH": str(_ROOT), "PYTHONUTF8": "1", "TERM": "xterm-256color"},
        )
        os.close(slave)
        received = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(master, 65536):
                received += piece
        os.close(master)
        return process.wait(timeout=60), received.decode()

    return run


def lines_of(text):
    return [line for part in text.split("\n") for line in _CONTROLS.sub("", part).split("\r")]


def test_a_push_with_a_long_name_fits_the_terminal_and_leaves_only_its_receipt(on_terminal, orders):
    code, text = on_terminal("push", orders, "--table", _LONG, "--emulator")
    assert code == 0, text
    frames, _, result = text.partition("DONE")
    assert max(cell_len(line) for line in lines_of(frames)) <= 80
    assert frames.startswith(f"  {_LONG[:76]}…")  # the first line, before the frames of the live display
    assert frames.index("\r\x1b[2K") < frames.index("planning")
    assert "planning" in frames
    assert "rows      3 in 1 chunk" in _CONTROLS.sub("", result)


def test_a_failure_erases_the_first_line(on_terminal, orders):
    code, text = on_terminal("push", orders, "--table", "T", "--config", "absent.toml")
    assert code == 2
    assert text.startswith("  T  starting\r\x1b[2K")


def test_nothing_is_announced_where_it_is_not_wanted(on_terminal, pushengine, orders):
    for words in (("--quiet",), ("--log-format", "json")):
        _, text = on_terminal("push", orders, "--table", "T", "--emulator", *words)
        assert "starting" not in text
    assert "starting" not in pushengine("push", orders, "--table", "T", "--emulator").err


@pytest.mark.parametrize("words", [("push", "orders.csv", "--table", "T"), ("resume",)], ids=["push", "resume"])
def test_the_first_frame_comes_before_anything_heavy_is_imported(environment, orders, tmp_path, words):
    environment = environment | {"PYTHONPATH": str(_ROOT), "TERM": "xterm"}
    done = subprocess.run(
        [sys.executable, "-c", _PROBE, *words],
        capture_output=True,
        text=True,
        env=environment,
        cwd=tmp_path,
        check=True,
    )
    assert "starting" in done.stdout
    assert done.stdout.startswith("[[], ")


def test_a_run_of_loads_fits_the_terminal_and_leaves_its_table(on_terminal, tmp_path):
    """More pushes than lines, long and wide names, and one that fails."""
    data = tmp_path / "data"
    data.mkdir()
    for name in (_LONG[:100], "売上明細テーブル" * 5, *(f"T{number}" for number in range(12))):
        (data / f"{name}.csv").write_text("ID,NAME\n1,one\n2,two\n", encoding="utf-8")
    (data / "BAD.csv").write_text("ID,NAME\n1,one\n2\n")
    config = tmp_path / "night.toml"
    config.write_text(f'[state]\ndir = "state"\n[[load]]\nname = "sap"\nsource = "{data}/{{table}}.csv"\n')
    code, text = on_terminal("load", "--config", config, "--emulator", lines=12)
    assert code == 3, text
    shown = lines_of(text)
    assert max(cell_len(line) for line in shown if "->" not in line) <= 80
    assert text.startswith("  loads  starting\r\x1b[2K")
    plain = "\n".join(shown)
    assert "of 15 done, 1 failed" in plain
    assert "sap.BAD: failed" in plain  # it scrolled by while the others went on
    assert "15 loads: 14 done, 1 failed" in plain
