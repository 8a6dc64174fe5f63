"""The states of loads, in the order and the words for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pushengine.journal.loads import RunLoad, RunState

STATES: Mapping[RunState, str] = {
    "unknown": "outcome unknown",
    "failed": "failed",
    "blocked": "blocked",
    "missing": "missing",
    "rejects": "done with rejects",
    "done": "done",
    "skipped": "skipped",
    "running": "running",
    "planned": "not started",
}
"""The states in words, the most urgent first."""
TROUBLE: tuple[RunState, ...] = ("unknown", "failed", "blocked", "missing")
"""States that a person has to do something about."""
DONE: tuple[RunState, ...] = ("done", "rejects")
OPEN: tuple[RunState, ...] = ("running", "planned")
_URGENCY = {state: number for number, state in enumerate(STATES)}


def load_name(load: RunLoad) -> str:
    """Return the name of a load for people: `sap.VBAP`, or that of a rule which found no table."""
    return f"{load.load}.{load.table}" if load.table else load.load


def is_trouble(load: RunLoad) -> bool:
    """Whether a person has to do something about a load: it failed, is missing or blocked, or was skipped for another process."""
    return load.state in TROUBLE or load.exit_code != 0


def trouble_first(loads: Iterable[RunLoad]) -> list[RunLoad]:
    """Return loads with those first that a person has to do something about, otherwise in their order."""
    return sorted(loads, key=lambda load: _URGENCY[load.state] if is_trouble(load) else len(_URGENCY))


def worst(loads: Iterable[RunLoad]) -> RunLoad:
    """Return the load in the most urgent state, the first of several; there must be one."""
    return min(loads, key=lambda load: _URGENCY[load.state])
