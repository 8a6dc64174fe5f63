"""The report of loads as one HTML file to mail: tables and inline styles, nothing from elsewhere.

Mail clients differ in what they keep. Colors and alignment are attributes of the cells. A client that drops SVG shows the text in it,
which is the chart as a line of characters.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

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
from pushengine.loads.report import LoadReport, Night, Report
from pushengine.loads.states import load_name
from pushengine.text import shown_line

_FONT = "font-family:Segoe UI,Helvetica,Arial,sans-serif;font-size:14px;color:#1a1a1a"
_BAD, _GOOD, _BAR, _FAINT = "#b00020", "#0b6b2e", "#5b7fa6", "#d0d0d0"
_BAR_WIDTH, _HEIGHT = 5, 16
_LEFT = ' align="left"'
_MOST_TROUBLES = 40
_LONGEST_REASON, _LONGEST_NAME = 600, 60
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta name="color-scheme" content="light">
<title>{title}</title>
</head>
<body style="margin:16px;background:#ffffff;{font}" bgcolor="#ffffff">
"""


def report_html(report: Report, *, hints: Hints = PLAIN) -> str:
    """Return a report as an HTML page. 300 loads take less than 200 kB."""
    color = _BAD if report.exit_code else _GOOD
    lines = [
        _HEAD.format(title=_text(f"pushengine: {headline(report).lower()}"), font=_FONT).rstrip(),
        f'<h1 style="font-size:20px;color:{color};margin:0 0 8px 0">{_text(headline(report))}</h1>',
        f'<p style="margin:0 0 4px 0">{_text(period(report))}</p>',
    ]
    if report.loads:
        lines.append(f'<p style="margin:0 0 12px 0">{_text(totals(report))}</p>')
    lines += [part for entry in report.troubles[:_MOST_TROUBLES] for part in _trouble(entry, hints)]
    if len(report.troubles) > _MOST_TROUBLES:
        more = len(report.troubles) - _MOST_TROUBLES
        lines.append(f"<p><b>{more:,} more</b> are at the top of the table.</p>")
    lines += [f'<p style="margin:12px 0">{_text(note)}</p>' for note in notes(report)]
    lines += _table(report.loads) if report.loads else []
    return "\n".join([*lines, "</body>", "</html>", ""])


def _text(text: str, most: int = _LONGEST_REASON) -> str:
    """Return a foreign text as HTML."""
    return html.escape(shown_line(text, most))


def _trouble(entry: LoadReport, hints: Hints) -> list[str]:
    commands = "".join(
        f'<br>{_text(why)}: <code style="font-family:Consolas,monospace">{_text(command)}</code>'
        for why, command in steps(entry, hints)
    )
    box = f'<table role="presentation" cellpadding="6" style="{_FONT};border-left:4px solid {_BAD};margin:0 0 8px 0">'
    head = f'<b style="color:{_BAD}">{_text(trouble_word(entry))}</b> &nbsp;<b>{_text(load_name(entry.load))}</b>'
    return [box, "<tr><td>", f"{head}: {_text(trouble_reason(entry))}{commands}", "</td></tr></table>"]


def _table(loads: Sequence[LoadReport]) -> list[str]:
    titles = (*(title.capitalize() for title in COLUMNS), f"Rows of the last {len(loads[0].nights)} nights")
    heads = "".join(f"<th{_align(column) or _LEFT}>{title}</th>" for column, title in enumerate(titles))
    return [
        f'<table cellpadding="4" cellspacing="0" style="{_FONT};font-size:13px;border-collapse:collapse">',
        f'<tr bgcolor="#eeeeee">{heads}</tr>',
        *(_row(entry) for entry in loads),
        "</table>",
    ]


def _row(entry: LoadReport) -> str:
    name, *others = cells(entry)
    texts = [_text(name, _LONGEST_NAME), *map(_text, others)]
    if entry.is_trouble:
        texts[1] = f'<b style="color:{_BAD}">{texts[1]}</b>'
    shown = "".join(f"<td{_align(column)}>{text}</td>" for column, text in enumerate(texts))
    return f"<tr>{shown}<td>{_chart(entry.nights)}</td></tr>"


def _align(column: int) -> str:
    return ' align="right"' if column in NUMBERS else ""


def _chart(nights: Sequence[Night]) -> str:
    """Return the rows of some nights as bars: red for a night that ended with a failure, a faint line for one without a run."""
    most = max((night.rows or 0 for night in nights), default=0)
    paths = {_BAR: "", _BAD: "", _FAINT: ""}
    for number, night in enumerate(nights):
        color = _BAD if night.has_failed else _FAINT if night.rows is None else _BAR
        share = (night.rows or 0) / most if most else 0.0
        height = _HEIGHT if night.has_failed else 1 if night.rows is None else max(round(share * _HEIGHT), 2)
        paths[color] += f"M{number * _BAR_WIDTH} {_HEIGHT}v-{height}h{_BAR_WIDTH - 1}v{height}"
    drawn = "".join(f'<path fill="{color}" d="{path}"/>' for color, path in paths.items() if path)
    width = len(nights) * _BAR_WIDTH
    return f'<svg width="{width}" height="{_HEIGHT}" role="img"><title>{sparkline(nights)}</title>{drawn}</svg>'
