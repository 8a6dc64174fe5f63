"""The real command line, killed while it leaves rows out: the list is whole and the table has all other rows."""

import contextlib
import csv
import random
import signal
from pathlib import Path

import pytest

pytestmark = [pytest.mark.crash, pytest.mark.timeout(300)]

ROWS = 30_000
KILLS = 6
MAX_RUNS = 20


def write(folder):
    """Write a file of which every 100th row has a field too few and every 777th a bad number. Return the bad rows as they are written."""
    bad = []
    with (folder / "big.csv").open("w") as file:
        file.write("N,ID,TEXT\n")
        for number in range(ROWS):
            line = f"{number},{number:010d},text of row {number} that fills it up"
            if number % 100 == 50:
                line = f'{number},"two\nlines"'
            elif number % 777 == 0:
                line = f"x{line}"
            else:
                file.write(f"{line}\n")
                continue
            file.write(f"{line}\n")
            bad.append(line)
    return bad


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
async def test_the_list_is_whole_however_often_the_command_is_killed(lab, seed):
    rng = random.Random(seed)
    bad = write(lab.folder)
    words = ("push", "big.csv", "--table", "T", "--mode", "append", "--column", "N=INTEGER", "--json")
    for deaths in range(MAX_RUNS):
        process = await lab.run(*words, "--max-rejects", str(len(bad)))
        if deaths < KILLS and await lab.wait_for_chunks(process, rng.randint(1, 5)):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        code, receipt, err = await lab.finish(process)
        assert code in (0, -signal.SIGKILL), err
        if receipt is not None:
            break
    else:
        raise AssertionError(f"not done after {MAX_RUNS} runs")
    assert deaths >= 2
    assert receipt["resumed"]
    assert (receipt["status"], receipt["rows"], receipt["rejects"]["rows"]) == ("DONE", ROWS - len(bad), len(bad))
    path = Path(receipt["rejects"]["file"])
    assert [entry.name for entry in path.parent.iterdir()] == [f"{receipt['push_id']}.csv"]
    with path.open(encoding="utf-8", newline="") as file:
        assert [line["csv_line"] for line in csv.DictReader(file)] == bad
    found = await lab.emulator.query('select count(*), count(distinct N) from "T"')
    assert found == [(ROWS - len(bad), ROWS - len(bad))]
    lab.check_submits("T")
