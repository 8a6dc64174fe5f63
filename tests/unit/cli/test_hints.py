"""Commands in hints can be pasted into a shell."""

import shlex
from pathlib import Path

import pytest

from pushengine.cli.hints import PLAIN, Hints


def test_without_the_flag_the_command_has_none():
    assert PLAIN.resume("p1") == Hints(keeps_pushes=False).resume("p1") == "pushengine resume p1"


@pytest.mark.parametrize("name", ["night.toml", "my configs/night.toml", "it's.toml", "$HOME.toml"])
def test_a_config_file_is_named_as_the_shell_needs_it(name):
    command = Hints(config=Path(name)).resume("p1")
    assert shlex.split(command) == ["pushengine", "resume", "p1", "--config", name]
