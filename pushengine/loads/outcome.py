"""What became of the loads of a run, and what the run exits with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from pushengine.journal.loads import BlockRow, Run, RunLoad
from pushengine.loads.forecast import Forecast
from pushengine.loads.items import Item
from pushengine.loads.states import STATES, is_trouble, load_name
from pushengine.model import Receipt

EXIT_FAILED, EXIT_AUTH, EXIT_OUTCOME_UNKNOWN, EXIT_TEMPORARY, EXIT_INTERRUPTED = 3, 4, 6, 75, 130


@dataclasses.dataclass(frozen=True, slots=True)
class Failure:
    """A failure of one load.

    Attributes:
        exit_code: What the failure alone would exit with.
        reason: What broke, and what to do next; without secrets.
    """

    exit_code: int
    reason: str


Judge = Callable[[BaseException], Failure]
"""Describes an exception."""


@dataclasses.dataclass(frozen=True, slots=True)
class RunResult:
    """The result of a run.

    Attributes:
        run: The run.
        items: What it did, in its order.
        forecast: What was expected of it; None if there was nothing to push.
        blocks: What blocks its loads.
        notes: What people should know of the files.
        is_dry: Whether nothing was done.
    """

    run: Run
    items: tuple[Item, ...]
    forecast: Forecast | None = None
    blocks: tuple[BlockRow, ...] = ()
    notes: tuple[str, ...] = ()
    is_dry: bool = False

    @property
    def loads(self) -> tuple[RunLoad, ...]:
        """What became of each item, as the journal has it."""
        return tuple(item.row for item in self.items)

    @property
    def exit_code(self) -> int:
        """What the command exits with; of a dry run, what is known already: nothing is said of what it would push."""
        return exit_code_of(load for load in self.loads if not (self.is_dry and load.state == "planned"))

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON types."""
        states: dict[str, int] = {}
        for load in self.loads:
            word = state_word(load.state)
            states[word] = states.get(word, 0) + 1
        return {
            "run_id": self.run.run_id,
            "status": "PLANNED"
            if self.is_dry
            else {0: "DONE", EXIT_INTERRUPTED: "INTERRUPTED"}.get(self.exit_code, "ERROR"),
            "exit_code": self.exit_code,
            "states": states,
            "rows": sum(load.rows for load in self.loads),
            "forecast": None if self.forecast is None else forecast_dict(self.forecast),
            "loads": [load_dict(item.row, item.receipt) for item in self.items],
        }


def forecast_dict(expected: Forecast) -> dict[str, Any]:
    """Return a forecast as JSON types; times are ISO 8601 in UTC."""
    return {
        "tables": expected.tables,
        "submits": [
            {"at": None if batch.at is None else f"{batch.at:%Y-%m-%dT%H:%M:%SZ}", "count": batch.submits}
            for batch in expected.batches
        ],
        "ends_at": f"{expected.ends_at:%Y-%m-%dT%H:%M:%SZ}",
    }


def load_dict(load: RunLoad, receipt: Receipt | None = None) -> dict[str, Any]:
    """Return what a run did about one generation of a load as JSON types, with the receipt of its push."""
    raw = dataclasses.asdict(load)
    raw.update(
        name=load_name(load),
        state=state_word(load.state),
        files=list(load.files),
        receipt=None if receipt is None else receipt.to_dict(),
    )
    return raw


def state_word(state: str) -> str:
    """Return the state as JSON has it: in the journal's word, but for one that people know by another."""
    return STATES["rejects"] if state == "rejects" else state


def exit_code_of(loads: Iterable[RunLoad]) -> int:
    """Return what a run exits with: see the table of exit codes in the manual."""
    loads = list(loads)
    if any(load.state == "unknown" for load in loads):
        return EXIT_OUTCOME_UNKNOWN
    if any(load.state in ("planned", "running") for load in loads):
        return EXIT_INTERRUPTED
    codes = {load.exit_code or EXIT_FAILED for load in loads if is_trouble(load)}
    if not codes:
        return 0
    return codes.pop() if codes in ({EXIT_AUTH}, {EXIT_TEMPORARY}) else EXIT_FAILED
