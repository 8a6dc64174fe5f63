"""Commands, JSON outputs and payloads are what they were when they were written down (`support.recordings`)."""

import pytest
import typer.main
from support.recordings import VERSIONS, collect_help, collect_outputs, collect_payloads, recorded

from pushengine.cli.app import app

pytestmark = pytest.mark.timeout(180)


def test_commands_options_and_defaults_are_the_recorded_ones():
    assert collect_help(typer.main.get_command(app)) == recorded("help")


async def test_json_outputs_and_exit_codes_are_the_recorded_ones(tmp_path):
    assert await collect_outputs(tmp_path) == recorded("outputs")


async def test_payloads_are_the_recorded_ones(tmp_path):
    """An open push goes on with an earlier version's chunks only while the same rows give the same bytes."""
    expected = recorded("payloads")
    found = await collect_payloads(tmp_path)
    if {name: expected[name] for name in VERSIONS} != VERSIONS:  # another Arrow writes other bytes, from the same rows
        for source in (*found.values(), *expected["sources"].values()):
            source["chunks"] = [chunk[:-1] for chunk in source["chunks"]]
    assert found == expected["sources"]
