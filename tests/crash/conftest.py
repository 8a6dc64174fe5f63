"""Fixture of the crash tests: an emulator, and commands that push to it."""

import pytest
from support.lab import Lab

from pushengine.emulator import Emulator, EmulatorSettings


@pytest.fixture
async def lab(tmp_path):
    settings = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0, submits_per_hour=100_000)
    async with Emulator(settings=settings) as emulator:
        opened = Lab(emulator, tmp_path)
        opened.write()
        yield opened
        for process in opened.running:
            if process.returncode is None:
                process.kill()
                await process.communicate()
