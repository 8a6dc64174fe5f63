"""Commands, JSON outputs and payloads are the same as when they were recorded (by `support.recordings`)."""

import pytest
import typer.main
from support.recordings import VERSIONS, collect_help, collect_outputs, collect_payloads, recorded

from pushengine.cli.app import app

pytestmark = pytest.mark.timeout(180)


def test_commands_options_and_defaults_match_the_recording():
    assert collect_help(typer.main.get_command(app)) == recorded("help")


async def test_json_outputs_and_exit_codes_match_the_recording(tmp_path):
    assert await collect_outputs(tmp_path) == recorded("outputs")


async def test_payloads_match_the_recording(tmp_path):
    """A push can be resumed after an upgrade only as long as the same rows are encoded to the same bytes."""
    expected = recorded("payloads")
    found = await collect_payloads(tmp_path)
    if {
        name: expected[name] for name in VERSIONS
    } != VERSIONS:  # another Arrow version encodes the same rows to different bytes
        for source in (*found.values(), *expected["sources"].values()):
            source["chunks"] = [chunk[:-1] for chunk in source["chunks"]]
    assert found == expected["sources"]
