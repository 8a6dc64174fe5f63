"""An emulator in a process of its own, so that only what is tested uses memory, descriptors and threads of the tests' process.

It prints its URL, then answers each line of SQL on standard input with a line of JSON.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.emulator.faults import FaultPlan


class FarEmulator:
    """Starts the process. `options` are settings of the emulator, with the fault plan as plain data; a context manager."""

    def __init__(self, **options):
        self._options = options

    def __enter__(self):
        here = Path(__file__)
        self._process = subprocess.Popen(
            [sys.executable, str(here), json.dumps(self._options)],
            env={"PYTHONPATH": str(here.parents[2])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self._process.stdout.readline().strip()
        return self

    def __exit__(self, *_):
        self._process.communicate()  # the end of its input ends the process

    def query(self, sql):
        print(sql, file=self._process.stdin, flush=True)
        return [tuple(row) for row in json.loads(self._process.stdout.readline())]


async def serve(options):
    plan = FaultPlan.from_data(options.pop("fault_plan", {}))
    async with Emulator(settings=EmulatorSettings(fault_plan=plan, **options)) as emulator:
        print(emulator.url, flush=True)  # noqa: T201
        while line := await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await emulator.query(line)), flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
