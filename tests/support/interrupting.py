"""Pushes that are interrupted at a chosen event, and changes to the plan that the journal keeps of them."""

import contextlib
import sqlite3

import pytest

from pushengine.errors import EngineClosedError


class DrainAt:
    """An event sink that drains an engine at one kind of event."""

    def __init__(self, kind, engine):
        self.kind, self.engine = kind, engine

    def emit(self, event):
        if isinstance(event, self.kind):
            self.engine.drain()


async def interrupted(stage, push, kind, **reopened):
    """Drain a push at an event, close its engine and open another one. Return the receipt of the interrupted push.

    Args:
        stage: The stage, whose engine is replaced.
        push: A push of the stage that has not started.
        kind: The kind of event.
        reopened: Settings of the other engine.
    """
    stage.engine._bus.add(DrainAt(kind, stage.engine))
    with pytest.raises(EngineClosedError) as caught:
        await push
    await stage.engine.aclose()
    stage.engine = await stage.open_engine(**reopened)
    return caught.value.receipt


def change_plan(stage, sql):
    """Run a statement that changes exactly one row of the journal."""
    with contextlib.closing(sqlite3.connect(stage.folder / "state" / "journal.sqlite3")) as db, db:
        assert db.execute(sql).rowcount == 1
