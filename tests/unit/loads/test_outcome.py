import pytest

from pushengine.journal.loads import Run, RunLoad
from pushengine.loads.items import Item
from pushengine.loads.outcome import RunResult, exit_code_of


def row(state, code=0, table="T"):
    return RunLoad(load="r", table=table, state=state, exit_code=code)


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([], 0),
        ([row("done"), row("rejects"), row("skipped")], 0),
        ([row("done"), row("unknown", 6), row("failed", 3)], 6),
        ([row("done"), row("failed", 3)], 3),
        ([row("missing", 3)], 3),
        ([row("blocked", 3)], 3),
        ([row("failed", 4), row("failed", 4)], 4),
        ([row("failed", 75), row("skipped", 75)], 75),
        ([row("failed", 75), row("blocked", 75)], 75),
        ([row("failed", 4), row("failed", 75)], 3),
        ([row("failed", 75), row("missing", 3)], 3),
        ([row("failed", 1)], 3),
        ([row("failed", 2), row("failed", 75)], 3),
        ([row("done"), row("running")], 130),
        ([row("planned"), row("failed", 3)], 130),
        ([row("planned"), row("unknown", 6)], 6),
    ],
)
def test_6_if_any_is_unknown_else_3_but_4_or_75_only_if_every_failure_is_that_else_0(rows, code):
    assert exit_code_of(rows) == code


def test_the_result_names_states_as_people_know_them():
    items = tuple(Item(row(state)) for state in ("done", "rejects", "skipped"))
    found = RunResult(Run(run_id="id", started_at=0.0), items).to_dict()
    assert found["states"] == {"done": 1, "done with rejects": 1, "skipped": 1}
    assert (found["run_id"], found["status"], found["exit_code"]) == ("id", "DONE", 0)
    assert [one["state"] for one in found["loads"]] == ["done", "done with rejects", "skipped"]
