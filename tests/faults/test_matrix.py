"""Every operation x every fault x its first, a middle and its last call, over real HTTP.

Each push loads its rows exactly once or leaves the table untouched. Time runs fifty times as fast for the engine and the emulator's quota,
so that waits of minutes pass in about a second.
"""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.fast import FastClock, push_once

from pushengine.emulator import Emulator, EmulatorSettings
from pushengine.emulator.faults import FaultPlan
from pushengine.errors import PushEngineError, SubmitOutcomeUnknownError
from pushengine.push.outcome import is_resumable

ROWS = 360
CHUNKS = 7


LOGIN_PAGE = "<!DOCTYPE html><html><title>Sign in</title></html>"
FAULTS = {
    "500": {"action": "status", "code": 500},
    "503 after processing": {"action": "status", "code": 503, "after_commit": True},
    "429 without a wait": {"action": "rate_limit"},
    "429 with Retry-After": {"action": "rate_limit", "form": "retry_after", "seconds": 2},
    "reset before processing": {"action": "drop_before"},
    "reset in the body": {"action": "drop_before", "after_bytes": 100},
    "closed before processing": {"action": "drop_before", "reset": False},
    "reset after processing": {"action": "drop_after", "reset": True},
    "closed after processing": {"action": "drop_after"},
    "processed late": {"action": "commit_late", "seconds": 0.4},
    "processed twice": {"action": "duplicate"},
    "response truncated": {"action": "truncated"},
    "response malformed": {"action": "malformed"},
    "response empty": {"action": "empty"},
    "login page": {"action": "status", "code": 200, "body": LOGIN_PAGE},
    "login page after processing": {"action": "status", "code": 200, "body": LOGIN_PAGE, "after_commit": True},
    "redirect": {"action": "status", "code": 302, "headers": {"Location": "https://login.example/"}},
    "200 without processing": {"action": "status", "code": 200},
    "slow response": {"action": "delay", "seconds": 0.1, "when": "after"},
    "token expired": {"action": "expire_tokens"},
    "job gone before": {"action": "vanish"},
    "job gone after": {"action": "vanish", "when": "after"},
    "stale status": {"action": "stale_status", "status": "NEW"},
}
FAILED_AT_ONCE = [("create", "redirect"), ("token", "redirect")]
"""A redirect looks like a wrong address. Before it has created anything, the engine does not wait for that to pass."""
OCCURRENCES = {
    "create": [1],
    "upsert": [1, 4, CHUNKS],
    "list_chunks": [1],
    "submit": [1],
    "get": [1, 2, 3],
    "token": [1],
    "delete": [1],
    "list": [1],
}
REPEATED = [[1, 2]]
REPEATED_AFTER_REPLAY = [[1, 3]]
"""The engine repeats a call whose token has expired at once, but only once, so the second call must pass."""


def cases(operation, name):
    """Yield the plan and the rule of each case. Rules that the emulator rejects as impossible are left out."""
    repeated = REPEATED_AFTER_REPLAY if name == "token expired" else REPEATED
    for nth in [*OCCURRENCES[operation], *repeated]:
        raw = {"operation": operation, "nth": nth, **FAULTS[name]}
        with contextlib.suppress(ValueError):
            yield FaultPlan.from_data({"faults": [raw]}), raw


GROUPS = [
    (operation, name)
    for operation in OCCURRENCES
    for name in FAULTS
    if operation not in ("delete", "list") and list(cases(operation, name))
]


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("ID,TEXT\n" + "".join(f"{row:06d},{row % 10}{'x' * 1199}\n" for row in range(ROWS)))
    return path


async def run_until_over(plan, folder, source):
    """Run the same command until it is over. Return the outcome, (rows, distinct ids), the runs of each job, and the faults that fired."""
    clock = FastClock()
    with ThreadPoolExecutor(2) as encoders:
        settings = EmulatorSettings(queue_seconds=0.0, run_seconds=0.0, now=clock.now, fault_plan=plan)
        async with Emulator(settings=settings) as emulator:
            outcome = "never finished"
            for _run in range(6):
                try:
                    receipt = await push_once(emulator.url, clock, encoders, folder, source)
                except SubmitOutcomeUnknownError:
                    outcome = "unknown"
                    break
                except PushEngineError as error:
                    if not is_resumable(error):
                        outcome = f"failed: {error!r}"
                        break
                else:
                    outcome = receipt.status
                    break
            runs = [job.runs for job in emulator.service.jobs.values()]
            tables = await emulator.query("select table_name from information_schema.tables where table_name = 'T'")
            rows = [(0, 0)]
            if tables:
                rows = await emulator.query("select count(*), count(distinct ID) from T")
            return outcome, rows[0], runs, [tuple(fired) for fired in emulator.faults.fired]


def problem(outcome, rows, runs, *, is_vanishing):
    if outcome == "DONE" and rows != (ROWS, ROWS):
        return f"DONE with {rows}"
    if outcome == "unknown" and is_vanishing:
        return None
    if outcome.startswith("failed") and rows != (0, 0):
        return f"{outcome}, but the table has {rows}"
    if outcome != "DONE" and not outcome.startswith("failed"):
        return outcome
    if max(runs, default=0) > 1 or sum(run > 0 for run in runs) > 1:
        return f"jobs ran {runs}"
    return None


@pytest.mark.parametrize(("operation", "name"), GROUPS, ids=lambda part: part.replace(" ", "-"))
async def test_rows_arrive_exactly_once_or_the_table_is_untouched(operation, name, tmp_path, source, request):
    plans = list(cases(operation, name))
    request.node.user_properties.append(("fault_matrix_cases", len(plans)))
    problems = []
    for number, (plan, raw) in enumerate(plans):
        outcome, rows, runs, _fired = await run_until_over(plan, tmp_path / f"state{number}", source)
        found = problem(outcome, rows, runs, is_vanishing="gone" in name)
        if found:
            problems.append(f"{raw}: {found}")
        elif outcome != "DONE" and "gone" not in name and (operation, name) not in FAILED_AT_ONCE:
            problems.append(f"{raw}: {outcome}")
    assert problems == []
