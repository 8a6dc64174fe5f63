"""Describe receipts, plans, quotas and lists as lines of text."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pushengine import events
from pushengine.cli.reporting import cells as fitting
from pushengine.cli.story import PushSummary
from pushengine.journal.salvage import ExportResult, JournalCheck
from pushengine.model import CheckResult, Job, Plan, QuotaStatus, Receipt, RemoteChunk, type_name
from pushengine.text import (
    clock_time,
    format_bytes,
    format_count,
    format_seconds,
    labelled,
    shown_text,
    some_lines,
    utc,
)

if TYPE_CHECKING:
    from pushengine.journal.tables import RememberedTable, TableKey

_LABEL_WIDTH = 10
_CELL_WIDTH = 24
_LONGEST_CELL = 300
_PLAIN = {"delimiter": ",", "quote": '"', "encoding": "utf-8"}
"""The dialect of a plain CSV file, which a receipt does not mention."""


def _table(
    lines: Sequence[Sequence[str]], *, indent: int = 0, fixed: Sequence[int] = (), optional: Sequence[int] = ()
) -> list[str]:
    """Align rows of cells into columns that fit the terminal, or 80 cells; the first row holds the headings. As `cells.table`."""
    aligned = fitting.table(lines, width=fitting.terminal_width() - indent, fixed=fixed, optional=optional)
    return [f"{' ' * indent}{line}" for line in aligned]


def _rows(*rows: tuple[str, str]) -> list[str]:
    """Align labels and values into lines; a value with an empty label continues the one above."""
    return [f"  {label:<{_LABEL_WIDTH}}{value}" for label, value in rows]


def describe_receipt(
    receipt: Receipt, quota: QuotaStatus | None = None, resumed: events.PushResumed | None = None
) -> list[str]:
    """Describe a receipt for people. `resumed` says what an earlier process had already done."""
    rows_per_second = speed = ""
    if not receipt.resumed:  # otherwise rows and bytes are those of the whole push, seconds only those of this session
        seconds = max(receipt.elapsed_seconds, 1e-3)
        rows_per_second = f", {receipt.rows / seconds:,.0f} rows/s"
        speed = f", {format_bytes((receipt.source_bytes or receipt.payload_bytes) / seconds)}/s"
    sent = f"{format_bytes(receipt.source_bytes)} read -> {format_bytes(receipt.payload_bytes)} sent"
    rejects = receipt.rejects
    rows = [
        ("rows", f"{receipt.rows:,} in {format_count(receipt.chunks, 'chunk')}{rows_per_second}"),
        *([] if rejects is None else [("rejected", f"{format_count(rejects['rows'], 'row')}: {rejects['file']}")]),
        ("bytes", sent + speed),
        ("verified", _verification(receipt)),
        *([("resumed", _resumption(receipt, resumed))] if receipt.resumed else []),
        ("push", receipt.push_id),
        ("job", receipt.job_id or "none"),
    ]
    if receipt.quota_used is not None:
        limit = f" of {receipt.quota_limit}" if receipt.quota_limit else ""
        reset = f" (resets {clock_time(quota.resets_at)[:5]}Z)" if quota else ""
        rows.append(("quota", f"{receipt.quota_used}{limit} submits this hour{reset}"))
    if receipt.retries or receipt.restarts:
        retries = f"{receipt.retries:,} {'retry' if receipt.retries == 1 else 'retries'}"
        rows.append(("repaired", f"{retries}, {format_count(receipt.restarts, 'restart')}"))
    dialect = {name: value for name, value in (receipt.dialect or {}).items() if _PLAIN.get(name) != value}
    rows += [("dialect", describe_dialect(dialect))] if dialect else []
    rows += labelled("changed", receipt.schema_changes)
    rows += labelled("note", receipt.notes)
    rows += labelled("job log", some_lines(receipt.job_logs))
    state = receipt.status if receipt.rejects is None else f"{receipt.status} with rejects"
    head = f"{state}  {receipt.table}  {receipt.mode}, {format_seconds(receipt.elapsed_seconds)}"
    return [head, *_rows(*rows)]


def _verification(receipt: Receipt) -> str:
    if receipt.verified == "checksum":
        return "the platform's checksum of every chunk matches"
    if receipt.verified == "count":
        return (
            f"the platform holds {format_count(receipt.chunks, 'chunk')}, as sent (it returned no checksum to compare)"
        )
    return "no"


def _resumption(receipt: Receipt, resumed: events.PushResumed | None) -> str:
    if resumed is None or resumed.push_id != receipt.push_id:
        return "an earlier process started the push"
    if receipt.restarts or resumed.chunks_acknowledged > receipt.chunks:
        return "the earlier chunks of the push could not be reused"
    before, rows = resumed.chunks_acknowledged, format_count(resumed.rows_acknowledged, "row")
    return f"{before:,} of {format_count(receipt.chunks, 'chunk')}, {rows}, had already been sent"


def describe_plan(plan: Plan) -> list[str]:
    """Describe what a push would do."""
    size = format_bytes(plan.source_bytes) if plan.source_bytes is not None else "unknown size"
    sample = f"{format_count(plan.sampled_rows, 'row')}" + (
        ", the whole source" if plan.is_sample_complete else " sampled"
    )
    chunks = "number known after reading" if plan.estimated_chunks is None else f"about {plan.estimated_chunks:,}"
    files = plan.files[:5]
    rows = labelled("files", files)
    if len(plan.files) > len(files):
        rows.append(("", f"... {len(plan.files) - len(files):,} more"))
    rows += [
        ("size", size),
        ("read", sample),
        *([("dialect", describe_dialect(plan.dialect, plan.dialect_reason))] if plan.dialect else []),
        *([("keys", ", ".join(plan.keys))] if plan.keys else []),
        ("chunks", chunks),
        ("quota", format_count(plan.submits, "submit")),
        *labelled("changes", plan.schema_changes),
        *[("note", note) for note in plan.notes],
    ]
    head = f"PLAN  {plan.table}  {plan.mode}, nothing was sent"
    lines = [head, *_rows(*rows), f"  {format_count(len(plan.schema), 'column')}"]
    lines += _table([_reasoned(column) for column in plan.schema], indent=4, fixed=(1,)) if plan.schema else []
    if plan.first_rows:
        names = list(plan.first_rows[0])
        cells = [names, *([_cell(row[name]) for name in names] for row in plan.first_rows)]
        lines += [f"  first {format_count(len(plan.first_rows), 'row')}, as they will land"]
        lines += [
            f"    {line}" for block in fitting.in_blocks(cells, width=fitting.terminal_width() - 4) for line in block
        ]
    return lines


def describe_dialect(dialect: Mapping[str, Any], reason: str = "") -> str:
    """Describe how the text of a source is written: `delimiter ';' (as given), quote '"', encoding utf-8`."""
    names = [*(name for name in _PLAIN if name in dialect), *(name for name in dialect if name not in _PLAIN)]
    parts = [f"{name.replace('_', ' ')} {_setting(dialect[name])}" for name in names]
    if reason and parts:
        parts[0] = f"{parts[0]} ({reason})"
    return ", ".join(parts)


def _setting(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    text = str(value)
    if not text or not text[0].isalnum():
        return f"'{shown_text(text)}'" if text else "none"
    return text


def _reasoned(column: Mapping[str, Any]) -> list[str]:
    value = f": {column['value']}" if column["value"] else ""
    return [column["name"], type_name(column["type"], column["length"]), f"{column['reason']}{value}"]


def _cell(value: str | None) -> str:
    if value is None:
        return "NULL"
    text = shown_text(value)
    return text if len(text) <= _CELL_WIDTH else text[: _CELL_WIDTH - 1] + "…"


def describe_tables(tables: Mapping[TableKey, RememberedTable], journal: Path) -> list[str]:
    """Describe what is remembered of tables."""
    if not tables:
        return [f"nothing is remembered of any such table: {journal}"]
    lines: list[str] = []
    for key, table in tables.items():
        known = table.known
        connection = f", connection {key.connection_id}" if key.connection_id else ""
        loaded = f"push {table.push_id}" if table.push_id else "imported"
        rows = [
            ("pool", f"{key.pool_id} of {key.team}{connection}"),
            *([("keys", ", ".join(known.keys))] if known.keys else []),
            *([("rows", f"{known.rows:,} in the latest replace")] if known.rows is not None else []),
            ("from", f"{loaded}, {utc(table.at):%Y-%m-%d %H:%M:%S}Z"),
            *(
                [("doubtful", f"the outcome of push {known.doubt} is unknown: it may have changed the table")]
                if known.doubt
                else []
            ),
        ]
        columns = [(column.name, type_name(column.type, column.length)) for column in known.columns]
        head = f"{known.name}  {format_count(len(columns), 'column')}"
        lines += [*([""] if lines else []), head, *_rows(*rows), *_table(columns, indent=4, fixed=(1,))]
    return lines


def describe_quota(quota: QuotaStatus) -> list[str]:
    """Describe how much of the submit quota is left this hour."""
    left = f"{quota.remaining} of {quota.limit} submits left this hour, {quota.spent} spent"
    lines = [f"{quota.team}: {left}, resets {clock_time(quota.resets_at)}"]
    if quota.blocked_until:
        until = clock_time(quota.blocked_until)
        if quota.blocked_until[:10] != quota.hour_start[:10]:  # another day
            until = f"{quota.blocked_until[:10]} {until}"
        reason = quota.blocked_reason or "the server refused a submit"
        lines.append(f"  no submits until {until}: {reason}")
        lines.append("  if that is wrong: `pushengine quota reset`")
    return [*lines, "  as known to this host: other hosts and tools of the team use the same quota"]


def describe_checks(results: Sequence[CheckResult]) -> list[str]:
    """Describe each check in one line, with the remedy below a check that did not pass."""
    width = max((len(result.name) for result in results), default=0)
    words = {True: "ok", False: "FAILED", None: "skipped"}
    lines = []
    for result in results:
        lines.append(f"{words[result.is_ok]:<8}{result.name:<{width}}  {result.detail}")
        if result.remedy and not result.is_ok:
            lines.append(f"{'':<8}{'':<{width}}  -> {result.remedy}")
    return lines


def describe_jobs(jobs: Sequence[Job]) -> list[str]:
    """Describe jobs as a table, one line per job."""
    if not jobs:
        return ["no push jobs in this pool"]
    lines = [("JOB", "STATUS", "TYPE", "TABLE", "LAST CHANGE")]
    lines += [
        (
            job.id,
            job.status.value,
            job.type or "-",
            job.target_name or "-",
            f"{job.last_modified:%Y-%m-%d %H:%M:%SZ}" if job.last_modified else "-",
        )
        for job in jobs
    ]
    return _table(lines, fixed=(0, 1, 2, 4), optional=(2,))


def describe_job(job: Job, chunks: Sequence[RemoteChunk]) -> list[str]:
    """Describe one job with its chunks and logs."""
    rows = [
        ("status", job.status.value),
        ("table", job.target_name or "-"),
        ("type", job.type or "-"),
        ("chunks", f"{len(chunks):,}"),
        *[("", f"{chunk.id}  {chunk.type}  {chunk.checksum or '-'}") for chunk in chunks],
        *labelled("log", some_lines(job.logs)),
    ]
    return [f"job {job.id}", *_rows(*rows)]


def describe_history(pushes: Sequence[PushSummary], state_dir: Path, *, is_filtered: bool = False) -> list[str]:
    """Describe the pushes in the journal of a state folder as a table, one line per push. `is_filtered`: there may be others."""
    if not pushes and is_filtered:
        return [f"no such push in {state_dir}"]
    if not pushes:
        return [f"no pushes yet in {state_dir} (pushes into --emulator FILE are recorded in FILE.state)"]
    lines = [("PUSH", "TABLE", "MODE", "STATE", "ROWS", "STARTED (UTC)", "WORK", "RUNS")]
    lines += [
        (
            push.push_id,
            push.table,
            push.mode or "-",
            push.state,
            f"{push.rows:,}",
            f"{utc(push.started_at):%d %b %H:%M}",  # the id has the year and the seconds
            format_seconds(push.seconds),
            str(push.sessions),
        )
        for push in pushes
    ]
    head, *rows = _table(lines, fixed=(0, 2, 4, 5, 6, 7), optional=(7, 5, 6))
    described = [head]
    for push, row in zip(pushes, rows, strict=True):
        described += [row, *(f"  changed: {change}" for change in push.schema_changes)]
        if push.error and push.state != "superseded":
            described += textwrap.wrap(
                shown_text(f"error: {push.error}"),
                78,
                initial_indent="  ",
                subsequent_indent="         ",
                break_on_hyphens=False,
            )
    return described


def describe_journal_check(found: JournalCheck) -> list[str]:
    """Describe what `journal check` found."""
    states = ", ".join(f"{count:,} {state}" for state, count in sorted(found.pushes.items()))
    total = format_count(sum(found.pushes.values()), "push", "pushes")
    facts = f"{format_count(found.facts, 'fact')} can be read"
    if found.unreadable:
        facts += f", {found.unreadable:,} cannot"
    rows = [
        ("file", f"{found.path}, {format_bytes(found.size_bytes)}"),
        ("format", "cannot be read" if found.format is None else str(found.format)),
        ("pushes", f"{total}{f': {states}' if states else ''}"),
        ("facts", facts),
        *labelled("damage", found.problems),
    ]
    lines = ["FAILED  journal" if found.problems else "ok  journal"]
    lines += _rows(*rows)
    if found.problems:
        lines.append(
            "hint: `pushengine journal export --output FILE` saves what can be read; then move the journal away"
        )
    return lines


def describe_export(result: ExportResult, output: Path | None) -> list[str]:
    """Describe what `journal export` wrote, and to which file."""
    summary = f"{format_count(result.facts, 'fact')} written{f' to {output}' if output else ''}"
    lines = [f"{summary}, {result.unreadable:,} could not be read" if result.unreadable else summary]
    return [*lines, *[f"the journal is damaged: {problem}" for problem in result.problems]]
