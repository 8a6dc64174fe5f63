"""The report in its formats: for a terminal, to mail, for a chat, for programs. No name can break out of any of them."""

import datetime as dt
import html.parser
import json

import pytest
from rich.cells import cell_len
from support.run_memory import NOW, TWO, RunMemory, run_load

from pushengine.cli.hints import Hints
from pushengine.cli.reporting.report_html import report_html
from pushengine.cli.reporting.report_markdown import report_json, report_markdown
from pushengine.cli.reporting.report_text import describe_report
from pushengine.loads.report import make_report

SINCE = NOW - dt.timedelta(hours=20)
HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "&lt;b&gt;`|`@all [x](http://x) **b**",
    "A\nB\x1b[2J\u202e",
    "売上明細テーブル" * 8,
    "X" * 500,
    "</title></svg><script>",
)
VOID = {"meta", "br"}


class Page(html.parser.HTMLParser):
    """Reads a page, and fails on tags that are not closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.text, self._open = [], [], [], []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def night(*loads, names=()):
    memory = RunMemory()
    for back in range(13, 0, -1):
        memory.add_run(TWO - dt.timedelta(days=back), run_load("VBAP", rows=1000 * back))
    memory.add_run(TWO, *loads, minutes=64)
    return make_report(memory, since=SINCE, until=NOW, names=names)


def test_the_text_says_what_needs_a_look_first_and_what_to_do():
    found = night(
        run_load("VBAP", rows=14_000, source_bytes=2_500_000),
        run_load("MSEG", "failed", reason="3 rows do not fit", push_id="p1", generation="2026-11-27", exit_code=3),
        run_load("VBAK", "rejects", rows=88, rejected=12, is_late=True),
    )
    assert describe_report(found, width=80, hints=Hints(config="n.toml")) == [
        "2 OF 3 LOADS NEED A LOOK",
        "since Thu 26 Nov 12:00 until Fri 27 Nov 08:00 (+01:00); 1 run, 02:00 to 03:04",
        "3 loads: 1 done, 1 done with rejects, 1 failed, 1 late; 14,088 rows, 12",
        "rejected, 2.50 MB read",
        "",
        "failed  sap.MSEG: 3 rows do not fit (2026-11-27)",
        "    -> see what happened: pushengine show p1 --config n.toml",
        "    -> when it is fixed: pushengine load sap.MSEG --config n.toml",
        "",
        "late  sap.VBAK: it was done with rejects only after its deadline",
        "",
        "LOAD      STATE     ROWS  REJECTED      TIME     SIZE  10 NIGHTS",
        "sap.MSEG  failed       -         -  1:00 min        -  ·········×",  # noqa: RUF001 - the cross
        "sap.VBAK  late        88        12  1:00 min        -  ·········█",
        "sap.VBAP  done    14,000         0  1:00 min  2.50 MB  ▆▅▅▄▃▃▂▂▁█",
    ]


def test_a_night_without_any_run_says_so_in_every_format():
    found = make_report(RunMemory(), since=SINCE, until=NOW)
    assert describe_report(found, width=80)[0] == "NOTHING RAN: no run of loads has started"
    for text in (report_html(found), report_markdown(found)):
        assert "NOTHING RAN" in text
    assert (report_json(found)["exit_code"], report_json(found)["loads"]) == (3, [])


def hostile_night(states=("done", "failed", "blocked")):
    loads = [
        run_load(
            f"{name}{state}",
            state,
            load=name,
            reason=name,
            push_id=name,
            generation=name,
            rows=10**15,
            exit_code=state != "done",
        )
        for name in HOSTILE
        for state in states
    ]
    return night(*loads)


def test_the_text_fits_80_columns_with_any_name():
    lines = describe_report(hostile_night(), width=80)
    assert max(cell_len(line) for line in lines if "->" not in line) <= 80
    assert not any(set(line) & set("\n\x1b\u202e") for line in lines if "->" not in line)


def test_the_page_is_whole_and_no_name_is_more_than_text():
    page = Page(report_html(hostile_night()))
    assert set(page.tags) <= {
        *("html", "head", "meta", "title", "body", "h1", "p", "b", "br", "code"),
        *("table", "tr", "td", "th", "svg", "path"),
    }
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href")]
    assert any("<script>alert(1)</script>" in text for text in page.text)
    assert not any(set(text) & set("\x1b\u202e") for text in page.text)


def test_the_page_needs_nothing_from_elsewhere():
    text = report_html(night(run_load("VBAP", rows=1)))
    assert "http" not in text
    assert "url(" not in text
    assert '<meta charset="utf-8">' in text


@pytest.mark.parametrize("state", ["done", "failed"])
def test_the_page_of_300_loads_has_less_than_200_kb(state):
    memory = RunMemory()
    for back in range(13, -1, -1):
        memory.add_run(
            TWO - dt.timedelta(days=back),
            *(
                run_load(
                    f"TABLE_WITH_A_LONG_NAME_{number:03d}",
                    state,
                    rows=10**6 + 7919 * back * number % 10**6,
                    reason="r" * 250,
                    exit_code=3,
                    push_id="p" * 26,
                    source_bytes=10**8,
                )
                for number in range(300)
            ),
        )
    text = report_html(make_report(memory, since=SINCE, until=NOW))
    assert text.count("<svg") == 300
    assert len(text.encode()) < 200_000


def test_the_markdown_shows_foreign_texts_as_code():
    text = report_markdown(hostile_night())
    for line in text.splitlines():
        outside = "".join(line.split("`")[::2])
        assert line.count("`") % 2 == 0, line
        assert "<" not in outside
        assert "@" not in outside
        assert "**b**" not in outside
    rows = [line.replace("\\|", "") for line in text.splitlines() if line.startswith("|")]
    assert {row.count("|") for row in rows} == {8}


def test_the_json_has_each_load_with_reason_and_commands():
    found = json.loads(
        json.dumps(report_json(night(run_load("MSEG", "failed", reason="bad", push_id="p1", exit_code=3))))
    )
    assert (found["status"], found["exit_code"]) == ("1 of 1 load needs a look", 3)
    (load,) = found["loads"]
    assert (load["name"], load["state"], load["reason"], load["needs_a_look"]) == ("sap.MSEG", "failed", "bad", True)
    assert load["next"] == [
        {"when": "see what happened", "command": "pushengine show p1"},
        {"when": "when it is fixed", "command": "pushengine load sap.MSEG"},
    ]
    assert len(load["nights"]) == 14
    assert load["nights"][-1] == {"begins": "2026-11-26", "rows": 0, "seconds": 60.0, "has_failed": True}
    assert [run["started_at"] for run in found["runs"]] == ["2026-11-27T01:00:00Z"]


def test_a_run_that_was_cut_off_or_still_works_is_told():
    memory = RunMemory()
    memory.add_run(TWO, run_load("A", "running"), ended=False)
    cut_off = describe_report(make_report(memory, since=SINCE, until=NOW), width=80)
    assert "cut off  sap.A: the process of its run ended before it did" in cut_off
    assert "    -> finish the run: pushengine load --continue" in cut_off
    working = make_report(memory, since=SINCE, until=NOW, is_working=lambda _run: True)
    assert "still at work: 1 run (run0)" in describe_report(working, width=80)
