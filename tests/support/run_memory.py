"""A memory of runs that a test fills."""

import dataclasses
import datetime as dt

from pushengine.journal.loads import BlockRow, LoadedTable, Run, RunLoad

ZONE = dt.timezone(dt.timedelta(hours=1))
NOW = dt.datetime(2026, 11, 27, 8, 0, tzinfo=ZONE)
"""Eight in the morning."""
TWO = NOW.replace(hour=2)


def run_load(table="VBAP", state="done", **fields):
    """Return what a run did about one table of the rule `sap`."""
    return RunLoad(**{"load": "sap", "table": table, "state": state, **fields})


class RunMemory:
    """Implements `loads.report.RunMemory` in memory."""

    def __init__(self):
        self._runs: list[Run] = []
        self._loads: dict[str, list[RunLoad]] = {}
        self._tables: list[LoadedTable] = []
        self._blocks: list[BlockRow] = []

    def add_run(self, began, *loads, minutes=10, ended=True, pid=1):
        """Add a run; its loads take a minute each unless they say otherwise. Returns its id."""
        at, run_id = began.timestamp(), f"run{len(self._runs)}"
        self._runs.append(Run(run_id=run_id, started_at=at, ended_at=at + 60 * minutes if ended else None, pid=pid))
        self._loads[run_id] = [
            load if load.started_at else dataclasses.replace(load, started_at=at, ended_at=at + 60) for load in loads
        ]
        return run_id

    def add_table(self, table, load="sap", loaded_at=TWO):
        """Add a table that is expected."""
        self._tables.append(
            LoadedTable(
                load=load,
                table=table,
                team="t",
                pool_id="p",
                connection_id="",
                generation="",
                push_id="p",
                loaded_at=loaded_at.timestamp(),
            )
        )

    def add_block(self, table, path, kind="failed", push_id="p0", reason="it failed"):
        """Add a block."""
        self._blocks.append(
            BlockRow(load="sap", table=table, path=path, kind=kind, push_id=push_id, reason=reason, at=0.0)
        )

    def runs(self, *, since=0.0, limit=-1):
        found = [run for run in reversed(self._runs) if run.started_at >= since]
        return found if limit < 0 else found[:limit]

    def run_loads(self, run_id):
        return self._loads[run_id]

    def tables(self, load=None):
        return [table for table in self._tables if load in (None, table.load)]

    def blocks(self, load=None, table=None):
        return [block for block in self._blocks if load in (None, block.load) and table in (None, block.table)]
