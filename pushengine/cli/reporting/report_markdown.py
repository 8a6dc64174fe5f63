"""The report of loads as Markdown for a chat, and as JSON for programs."""

from __future__ import annotations

import datetime as dt
from typing import Any

from pushengine.cli.hints import PLAIN, Hints
from pushengine.cli.reporting.report_text import (
    COLUMNS,
    NUMBERS,
    cells,
    headline,
    notes,
    period,
    sparkline,
    steps,
    totals,
    trouble_reason,
    trouble_word,
)
from pushengine.loads.report import LoadReport, Report
from pushengine.loads.states import STATES, load_name
from pushengine.text import iso_utc, shown_line

_MOST_TROUBLES = 20
_MOST_LOADS = 50
_LONGEST_TEXT = 300


def report_markdown(report: Report, *, hints: Hints = PLAIN) -> str:
    """Return a report as Markdown. Foreign texts are code, so that they neither format nor mention anybody."""
    lines = [f"**{headline(report)}**", "", period(report)]
    if report.loads:
        lines += ["", totals(report)]
    troubles = report.troubles
    for entry in troubles[:_MOST_TROUBLES]:
        lines += ["", f"- **{trouble_word(entry)}** {_code(load_name(entry.load))}: {_code(trouble_reason(entry))}"]
        lines += [f"  - {why}: {_code(command)}" for why, command in steps(entry, hints)]
    if len(troubles) > _MOST_TROUBLES:
        lines += ["", f"{len(troubles) - _MOST_TROUBLES:,} more need a look."]
    lines += [line for note in notes(report) for line in ("", _code(note))]
    if report.loads:
        shown = report.loads[:_MOST_LOADS]
        lines += ["", _row(*COLUMNS, "NIGHTS")]
        lines.append(_row(*("---:" if column in NUMBERS else "---" for column in range(len(COLUMNS) + 1))))
        lines += [_row(*_cells(entry)) for entry in shown]
        if len(report.loads) > len(shown):
            lines += ["", f"... and {len(report.loads) - len(shown):,} more loads"]
    return "\n".join([*lines, ""])


def _cells(entry: LoadReport) -> list[str]:
    name, *others = cells(entry)
    return [_code(name).replace("|", "\\|"), *others, sparkline(entry.nights)]


def _row(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


def _code(text: str) -> str:
    return f"`{shown_line(text, _LONGEST_TEXT).replace('`', chr(39))}`"


def report_json(report: Report, *, hints: Hints = PLAIN) -> dict[str, Any]:
    """Return a report as plain JSON types, with times in ISO 8601."""
    return {
        "status": headline(report).lower(),
        "exit_code": report.exit_code,
        "since": _iso(report.since),
        "until": _iso(report.until),
        "runs": [
            {
                "run_id": run.run_id,
                "started_at": iso_utc(run.started_at),
                "ended_at": None if run.ended_at is None else iso_utc(run.ended_at),
                "exit_code": run.exit_code,
                "is_running": run.run_id in report.working,
            }
            for run in report.runs
        ],
        "loads": [_load_json(entry, hints) for entry in report.loads],
        "resting": [f"{table.load}.{table.table}" for table in report.resting],
    }


def _load_json(entry: LoadReport, hints: Hints) -> dict[str, Any]:
    load = entry.load
    return {
        "name": load_name(load),
        "load": load.load,
        "table": load.table,
        "state": STATES[load.state],
        "needs_a_look": entry.is_trouble,
        "is_late": load.is_late,
        "is_cut_off": entry.is_cut_off,
        "reason": trouble_reason(entry) if entry.is_trouble else load.reason,
        "next": [{"when": why, "command": command} for why, command in steps(entry, hints)],
        "generation": load.generation,
        "files": list(load.files),
        "push_id": load.push_id or None,
        "rows": load.rows,
        "rejected": load.rejected,
        "source_bytes": load.source_bytes,
        "payload_bytes": load.payload_bytes,
        "seconds": round(entry.seconds, 3),
        "runs": entry.runs,
        "failed_runs_before": entry.failures,
        "nights": [
            {
                "begins": night.begins.isoformat(),
                "rows": night.rows,
                "seconds": round(night.seconds, 3),
                "has_failed": night.has_failed,
            }
            for night in entry.nights
        ],
    }


def _iso(time: dt.datetime) -> str:
    return time.isoformat(timespec="seconds")
