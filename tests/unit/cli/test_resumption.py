"""`pushengine resume` without an id: what it prints and how it ends when some pushes cannot be resumed."""

import asyncio
from types import SimpleNamespace

import pytest
from support.receipts import receipt

from pushengine import errors, events
from pushengine.cli.commands.pushes import _Resumption
from pushengine.cli.hints import Hints


class Engine:
    """Resumes pushes with the given outcomes, in order."""

    def __init__(self, work, *outcomes):
        self.work, self.outcomes, self.resumed = work, outcomes, []

    async def open_pushes(self):
        return [SimpleNamespace(push_id=f"p{number}", target="T") for number in range(len(self.outcomes))]

    async def resume(self, push_id):
        self.resumed.append(push_id)
        outcome = self.outcomes[len(self.resumed) - 1]
        if isinstance(outcome, BaseException):
            raise outcome
        self.work.last.emit(events.PushFinished(push_id=push_id, receipt=outcome))
        return outcome


def new_work():
    return _Resumption(as_json=False, quiet=False, hints=Hints())


SKIPPED = errors.ConfigError("push p0 read an object in memory, which is gone", key="push_id", hint="push it again")
REFUSED = errors.AuthenticationError("the platform refused the key", status=401)
UNKNOWN = errors.SubmitOutcomeUnknownError("job j1 is gone", job_id="j1")


async def test_skipped_pushes_are_not_nothing(capsys):
    work = new_work()
    await work.run(Engine(work, SKIPPED, SKIPPED), None)
    work.print_results(None, is_one=False)
    out, err = capsys.readouterr()
    assert (work.code, out) == (0, "nothing was resumed: 2 unfinished pushes skipped\n")
    assert err.count("skipped: ") == 2


async def test_a_refusal_ends_the_run_even_after_a_more_severe_failure(capsys):
    work = new_work()
    engine = Engine(work, UNKNOWN, REFUSED, receipt(push_id="p2", resumed=True))
    await work.run(engine, None)
    assert (engine.resumed, work.code) == (["p0", "p1"], 6)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == [
        "error: push p0 (T): job j1 is gone",
        "error: push p1 (T): the platform refused the key",
    ]


async def test_an_interruption_and_a_bug_are_named(capsys):
    work = new_work()
    await work.run(
        Engine(work, ExceptionGroup("", [ValueError("strange")]), errors.EngineClosedError("interrupted")), None
    )
    err = capsys.readouterr().err
    assert "bug: push p0 (T): ValueError: strange\n" in err
    assert "interrupted: push p1 (T): the process was asked to stop\n" in err


async def test_an_abort_does_not_repeat_the_receipt_of_an_earlier_push():
    work = new_work()
    with pytest.raises(asyncio.CancelledError) as caught:
        await work.run(Engine(work, receipt(push_id="p0", resumed=True), asyncio.CancelledError()), None)
    work.last.attach_to(caught.value)
    assert caught.value.receipt is None
