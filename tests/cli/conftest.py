"""The command as its users run it: in a separate process, with a separate home folder."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command_line import Result


@pytest.fixture
def environment(tmp_path):
    """Return an environment in which no setting of this machine reaches the command."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PUSHENGINE_", "XDG_"))}
    home = tmp_path / "home"
    home.mkdir()
    return kept | {"HOME": str(home), "PUSHENGINE_STATE_DIR": str(tmp_path / "state"), "NO_COLOR": "1"}


@pytest.fixture
def start(environment, tmp_path):
    """Return a function that starts `pushengine` in the temporary folder. Processes that still run after the test are killed."""
    running = []

    def run(*arguments, **extra):
        process = subprocess.Popen(
            [sys.executable, "-m", "pushengine", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            cwd=tmp_path,
            env=environment | {"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONUTF8": "1"} | extra,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def pushengine(start):
    """Return a function that runs `pushengine` and waits for its end."""

    def run(*arguments, **extra):
        process = start(*arguments, **extra)
        out, err = process.communicate(timeout=60)
        return Result(process.returncode, out, err)

    return run


@pytest.fixture
def orders(tmp_path):
    """Create a small CSV file whose ids have leading zeros."""
    path = tmp_path / "orders.csv"
    path.write_text("ID,NAME,AMOUNT\n0001,Müller,1.50\n0002,Groß,2.25\n0003,,\n", encoding="utf-8")
    return path


@pytest.fixture
def emulator(start):
    """Return a function that starts `pushengine emulator` and returns the process, its first line and the environment that it prints."""

    def run(*arguments, **extra):
        process = start("emulator", *arguments, **extra)
        first = process.stdout.readline()
        exports = {}
        for line in process.stdout:
            if match := re.match(r"export (\w+)=(.*)", line):
                exports[match[1]] = match[2]
            if len(exports) == (2 if "--strict-auth" in arguments else 3):
                break
        return process, first, exports

    return run
