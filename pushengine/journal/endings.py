"""What the end of a push means to its load and its load id. Written in the transaction of the push's last fact: all of it, or nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from pushengine.journal.loads import BlockRow, FileRow, LoadedTable, LoadIdRow, LoadMemory, RunLoad, RunState
from pushengine.journal.queries import JournalQueries
from pushengine.journal.state import PushState
from pushengine.model import Claim

_EXIT_OUTCOME_UNKNOWN = 6
_BLOCKING_MODES = ("upsert", "delete")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushEnd:
    """The end of a push.

    Attributes:
        at: When it ended, seconds UTC.
        state: Its state before its last fact; it is planned.
        receipt: Its receipt as JSON types.
        error: Why it failed; empty if it is DONE.
        is_unknown: Whether it is unknown if its job ran.
    """

    push_id: str
    team: str
    pool_id: str
    at: float
    state: PushState
    receipt: Mapping[str, Any]
    error: str = ""
    is_unknown: bool = False

    @property
    def claim(self) -> Claim | None:
        """What the push means to a load; None if nobody said so."""
        planned = self.state.planned
        return None if planned is None or planned.claim is None else Claim.from_dict(planned.claim)


def record_end(file: JournalQueries, end: PushEnd) -> None:
    """Record what the end of a push means to its load, and the receipt of its load id. Needs an open transaction.

    A push that was stopped, rather than failed, means nothing: its files are neither loaded nor blocked.
    """
    planned, status = end.state.planned, end.receipt["status"]
    if planned is None or status == "INTERRUPTED":
        return
    if planned.load_id and status == "DONE":
        row = LoadIdRow(
            load_id=planned.load_id,
            push_id=end.push_id,
            request=planned.request or {},
            receipt=end.receipt,
            at=end.at,
        )
        file.loads.put_load_id(end.team, end.pool_id, row)
    claim = end.claim
    if claim is None:
        return
    if status == "DONE":
        _record_loaded(file.loads, end, claim)
    elif end.is_unknown or planned.target.get("mode") in _BLOCKING_MODES:
        _block(file.loads, end, claim)
    _record_in_run(file.loads, end, claim)


def _record_loaded(loads: LoadMemory, end: PushEnd, claim: Claim) -> None:
    planned = end.state.planned
    assert planned is not None  # noqa: S101 - `record_end` requires it
    files = _files(end, claim)
    known = {row.path: row for row in loads.files(claim.load, claim.table, [row.path for row in files])}
    for row in files:
        before = known.get(row.path)
        if before is not None:
            row = dataclasses.replace(row, cleanup=before.cleanup)  # noqa: PLW2901 - the same file
            if (before.size, before.version) == (row.size, row.version):
                row = dataclasses.replace(row, first_seen_at=before.first_seen_at or end.at)  # noqa: PLW2901
        loads.put_file(row)
    loads.put_table(
        LoadedTable(
            load=claim.load,
            table=claim.table,
            team=end.team,
            pool_id=end.pool_id,
            connection_id=planned.target.get("connection_id") or "",
            generation=claim.generation,
            push_id=end.push_id,
            loaded_at=end.at,
        )
    )
    paths = set(_paths(end))
    for block in loads.blocks(claim.load, claim.table):
        if block.push_id == end.push_id or (block.kind == "failed" and block.path in paths):
            loads.lift(block.load, block.table, block.path)


def _files(end: PushEnd, claim: Claim) -> list[FileRow]:
    """Return the files that the push loaded. Their digests are unknown if nothing of them was sent, because there were no rows."""
    fingerprint = next(iter(end.state.fingerprints), [])
    digests = end.state.sha256 or ()
    if len(digests) != len(fingerprint):
        digests = ("",) * len(fingerprint)
    return [
        FileRow(
            load=claim.load,
            table=claim.table,
            path=path,
            size=size,
            version=(changed, *rest),
            sha256=digest,
            generation=claim.generation,
            state="loaded",
            push_id=end.push_id,
            first_seen_at=end.at,
            loaded_at=end.at,
        )
        for (path, size, changed, _, *rest), digest in zip(fingerprint, digests, strict=True)
    ]


def _paths(end: PushEnd) -> list[str]:
    """Return the files of the push; as they were named, if it failed before they were opened."""
    fingerprint = next(iter(end.state.fingerprints), None)
    if fingerprint is not None:
        return [file[0] for file in fingerprint]
    return list((end.state.planned.source or ()) if end.state.planned is not None else ())


def _block(loads: LoadMemory, end: PushEnd, claim: Claim) -> None:
    for path in _paths(end) or [""]:
        loads.put_block(
            BlockRow(
                load=claim.load,
                table=claim.table,
                path=path,
                kind="unknown" if end.is_unknown else "failed",
                push_id=end.push_id,
                reason=end.error,
                at=end.at,
            )
        )


def _record_in_run(loads: LoadMemory, end: PushEnd, claim: Claim) -> None:
    """Record the end of the push in the run that started it, unless history no longer has that run."""
    if loads.run(claim.run_id) is None:
        return
    found = [
        row for row in loads.run_loads(claim.run_id, claim.load, claim.table) if row.generation == claim.generation
    ]
    row = found[0] if found else _new_row(claim, number=len(loads.run_loads(claim.run_id)))
    receipt = end.receipt
    rejected = (receipt.get("rejects") or {}).get("rows", 0)
    state: RunState = "failed"
    if end.is_unknown:
        state = "unknown"
    elif receipt["status"] == "DONE":
        state = "rejects" if rejected else "done"
    loads.set_load(
        claim.run_id,
        dataclasses.replace(
            row,
            state=state,
            reason=end.error,
            files=row.files or tuple(_paths(end)),
            push_id=end.push_id,
            load_id=receipt.get("load_id") or row.load_id,
            rows=receipt["rows"] if state in ("done", "rejects") else 0,
            rejected=rejected,
            source_bytes=receipt["source_bytes"],
            payload_bytes=receipt["payload_bytes"],
            started_at=row.started_at or end.state.started_at or end.at,
            ended_at=end.at,
            exit_code=_EXIT_OUTCOME_UNKNOWN if end.is_unknown else 0,
        ),
    )


def _new_row(claim: Claim, *, number: int) -> RunLoad:
    return RunLoad(load=claim.load, table=claim.table, generation=claim.generation, number=number)
