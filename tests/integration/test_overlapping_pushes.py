"""Pushes into one table at the same time: the one that submits later suits the table as the earlier one left it, or is refused."""

import asyncio

import pytest
from support.table_model import Extract, Step
from support.table_stage import MemoryStage, TablePlatform

from pushengine import errors
from pushengine.testing import VirtualClock, run_in_virtual_time

LAST = {"duplicate_keys": "last"}


def csv(names, *rows):
    return Extract("csv", tuple(names), tuple(tuple(row) for row in rows))


def run_together(folder, before, first, second):
    """Push `before`, then both others at the same time. Return their outcomes, the columns of the table, and the problems of the platform."""

    async def run():
        stage = MemoryStage(folder)
        try:
            if before is not None:
                assert (await stage.push(before, stage.write(before, "before"))).receipt
            process = stage.process()
            outcomes = await asyncio.gather(
                *(stage.push(step, stage.write(step, name), process) for name, step in (("1", first), ("2", second)))
            )
            structure = await stage.structure("T")
            assert stage.remembered("T") == structure
            return outcomes, list(structure), stage.problems(may_leave_job=False)
        finally:
            stage.close()

    return run_in_virtual_time(run())


def test_an_upsert_does_not_add_a_column_again_that_a_replace_has_dropped(tmp_path):
    whole = Step("T", "replace", csv("KA", ("1", "2")))
    drops = Step("T", "replace", csv("KA", ("1", "2")), exclude=("A",))
    lacks = Step("T", "upsert", csv("KB", ("2", "3")), keys=("K",), select=("K",))
    outcomes, columns, problems = run_together(tmp_path, whole, drops, lacks)
    assert (columns, problems) == (["k"], [])
    assert all(outcome.receipt for outcome in outcomes)


def test_a_column_that_was_left_out_is_sent_if_the_table_has_it_meanwhile(tmp_path):
    whole = Step("T", "replace", csv("K", ("1",)))
    adds = Step("T", "replace", csv("KA", ("1", "2")))
    ignores = Step("T", "append", csv("KA", ("3", "4")), settings={"new_columns": "ignore"})
    outcomes, columns, problems = run_together(tmp_path, whole, adds, ignores)
    assert (columns, problems) == (["k", "a"], [])
    assert [outcome.receipt.restarts for outcome in outcomes] == [0, 1]
    assert [column["name"] for column in outcomes[1].receipt.schema] == ["K", "A"]


@pytest.mark.parametrize("more", ["first", "second"])
def test_a_push_whose_table_was_created_meanwhile_is_planned_again_with_its_columns(tmp_path, more):
    steps = [Step("T", "append", csv("KA", ("01", "2"))), Step("T", "append", csv("K", ("3",)))]
    outcomes, columns, problems = run_together(tmp_path, None, *(steps if more == "first" else reversed(steps)))
    assert problems == []
    if more == "first":
        assert columns == ["k", "a"]
        assert all(outcome.receipt for outcome in outcomes)
        assert outcomes[1].receipt.restarts == 1
        assert outcomes[1].receipt.schema_changes == ("A: not in the source, NULL",)
    else:
        assert columns == ["k"]
        assert "row 1 (line 2), column K: '01' does not fit K INTEGER" in str(outcomes[1].error)


def test_an_empty_delta_that_died_after_its_plan_has_nothing_to_do_in_the_next_run(tmp_path):
    """At whatever step it dies."""
    step = Step("T", "append", csv("KA"))

    async def run(kill_at):
        stage = MemoryStage(tmp_path, seed=kill_at)
        try:
            spec = stage.write(step, f"night{kill_at}")
            kill, shared = stage.process(kill_at)
            await stage.push(step, spec, (kill, shared))
            outcome = await stage.push(step, spec)
            assert (outcome.receipt.status, outcome.receipt.rows, stage.submits()) == ("DONE", 0, []), outcome.error
            return kill.is_dead
        finally:
            stage.close()

    kill_at = 1
    while run_in_virtual_time(run(kill_at)):
        kill_at += 1
    assert kill_at > 5


def test_the_last_rows_are_found_anew_if_the_table_has_changed_since_they_were_found(tmp_path):
    """They are known by their content as it is sent, which the type of a column changes."""
    whole = Step("T", "replace", csv("KV", ("9", "1")))
    text = Step("T", "replace", csv("KV", ("9", "x")))
    last = Step("T", "upsert", csv("KV", ("1", "1"), ("1", "2"), ("2", "3")), keys=("K",), settings=LAST)
    restarts = set()

    async def run(centiseconds):
        (folder := tmp_path / str(centiseconds)).mkdir()
        stage = MemoryStage(folder)
        try:
            await stage.push(whole, stage.write(whole, "before"))

            async def push_later():
                await asyncio.sleep(centiseconds / 100)
                return await stage.push(last, stage.write(last, "last"), stage.process())

            replaced, upserted = await asyncio.gather(
                stage.push(text, stage.write(text, "text"), stage.process()), push_later()
            )
            assert replaced.receipt
            restarts.add(upserted.receipt.restarts)
            rows = [(str(row["k"]), str(row["v"])) for row in await stage.rows("T")]
            assert sorted(rows) == [("1", "2"), ("2", "3"), ("9", "x")]
        finally:
            stage.close()

    for centiseconds in (0, 10, 20, 10_000):
        run_in_virtual_time(run(centiseconds))
    assert restarts == {1, 3}


def ended_within_a_day(*pushes):
    async def run():
        async with asyncio.timeout(24 * 3600):
            return await asyncio.gather(*pushes)

    return run()


def test_one_engine_ends_a_submitted_push_and_one_that_waits_for_it_whichever_comes_first(tmp_path):
    staged = Step("T", "append", csv("KA", ("7", "2")))
    submitted = Step("T", "upsert", csv("KA", ("1", "2")), keys=("K",))

    async def run(milliseconds):
        (folder := tmp_path / str(milliseconds)).mkdir()
        stage = MemoryStage(folder)
        try:
            files = stage.write(staged, "staged"), stage.write(submitted, "submitted")
            await killed(stage, staged, files[0], "source_acked")
            await killed(stage, submitted, files[1], "submit_accepted")
            process = stage.process()

            async def resume_later():
                await asyncio.sleep(milliseconds / 1000)
                return await stage.push(submitted, files[1], process)

            outcomes = await ended_within_a_day(stage.push(staged, files[0], process), resume_later())
            assert outcomes[0].receipt, outcomes[0].error
            assert outcomes[1].receipt or isinstance(outcomes[1].error, errors.JournalLockedError)
            assert sorted(row["k"] for row in await stage.rows("T")) == [1, 7]
        finally:
            stage.close()

    for milliseconds in range(0, 60, 2):
        run_in_virtual_time(run(milliseconds))


async def killed(stage, step, spec, kind):
    """Push, and kill the process once a fact of this kind is in the journal."""
    facts = "SELECT count(*) FROM facts WHERE kind = ?"
    before = stage.journal._db.execute(facts, (kind,)).fetchone()
    kill, shared = stage.process()
    step_of = kill.step

    def step_and_die():
        if stage.journal._db.execute(facts, (kind,)).fetchone() != before:
            kill.at = kill.steps + 1
        step_of()

    kill.step = step_and_die
    assert await stage.push(step, spec, (kill, shared)) == (None, None)


class LosesSubmits(TablePlatform):
    """The first two submits do not arrive, and the caller cannot know."""

    lost = 0

    async def call(self, operation, job_id, effect):
        if operation == "submit" and self.lost < 2:
            self.lost += 1
            raise errors.RequestTimeoutError("no response", phase="read")
        return await super().call(operation, job_id, effect)


def test_two_processes_whose_submits_were_lost_at_the_same_time_do_not_wait_for_each_other_forever(tmp_path):
    steps = [Step("T", "append", csv("KA", (key, "2"))) for key in "17"]

    async def run():
        stage = MemoryStage(tmp_path, platform=LosesSubmits(VirtualClock()))
        try:
            files = [stage.write(step, str(number)) for number, step in enumerate(steps)]
            outcomes = await ended_within_a_day(*(stage.push(*one) for one in zip(steps, files, strict=True)))
            assert all(outcome.receipt for outcome in outcomes), outcomes
            assert stage.platform.lost == 2
            assert sorted(row["k"] for row in await stage.rows("T")) == [1, 7]
        finally:
            stage.close()

    run_in_virtual_time(run())
