"""What a run of many loads shows: live lines on a terminal of any size, one line a load elsewhere."""

import dataclasses
import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console
from support.receipts import receipt

from pushengine import events
from pushengine.cli.live.loads import LiveLoads, LoadLines, LogLoads, QuietLoads
from pushengine.journal.loads import RunLoad
from pushengine.logs import configure_logging
from pushengine.model import QuotaStatus

TWO = 1_800_000_000.0 - 1_800_000_000.0 % 3600  # a full hour
LONG = "EINE_TABELLE_MIT_EINEM_SEHR_LANGEN_NAMEN_" * 4
WIDE = "売上明細テーブル売上明細テーブル売上明細テーブル"


class Clock:
    def __init__(self):
        self.time = TWO

    def now(self):
        return self.time

    def monotonic(self):
        return self.time - TWO + 50.0


@pytest.fixture
def clock():
    return Clock()


def console(width=80, height=24):
    return Console(
        file=io.StringIO(), force_terminal=True, width=width, height=height, color_system=None, legacy_windows=False
    )


def shown(live, console):
    with console.capture() as captured:
        console.print(live.render())
    return captured.get().splitlines()


def begin(live, push_id, table, *, size=1000, sent=0, seconds=0.0, clock=None):
    """Emit the events of a push up to an uploaded chunk with `sent` bytes of the source."""
    p = {"push_id": push_id, "table": table, "pool": "p"}
    live.emit(events.PushStarted(**p, mode="replace", source="a.csv", source_bytes=size, columns=1))
    live.emit(events.JobCreated(**p, job_id=f"job-{push_id}"))
    live.emit(events.ChunkRead(**p, chunk_id="000000", source_bytes_read=sent))
    live.emit(events.ChunkEncoded(**p, chunk_id="000000", rows=10, payload_bytes=sent))
    chunk = {"chunk_id": "000000", "job_id": "j", "payload_bytes": sent}
    live.emit(events.UploadStarted(**p, **chunk, attempt=1))
    if clock is not None:
        clock.time += seconds
    if sent:
        live.emit(events.ChunkUploaded(**p, **chunk, rows=10, elapsed_seconds=1.0))
    return p


def load(table="VBAP", state="done", **fields):
    return RunLoad(**{"load": "sap", "table": table, "state": state, "rows": 1_234, "push_id": f"p-{table}", **fields})


def test_a_line_for_each_push_with_phase_percent_speed_and_remaining_time(clock):
    terminal = console()
    live = LiveLoads(terminal, clock=clock)
    live.expect(312)
    live.quota(QuotaStatus("acme", "x", 132, 250, events_time(TWO + 3600)))
    p = begin(live, "p1", "VBAK", size=4_000_000, sent=1_000_000, seconds=10.0, clock=clock)
    waiting = begin(live, "p2", "MSEG")
    live.emit(events.QuotaWaited(**waiting, job_id="j", until="2026-01-01T03:00:00Z", wait_seconds=60, reason="hour"))
    running = begin(live, "p3", "VBAP")
    live.emit(events.JobSubmitted(**running, job_id="j", submits=1))
    live.emit(events.JobStatusChanged(**running, job_id="j", status="RUNNING"))
    live.emit(events.ChunkRead(**p, chunk_id="000001", source_bytes_read=4_000_000))
    clock.time += 34
    live.finished(load("T1"))
    lines = shown(live, terminal)
    assert lines[0].startswith("1 of 312 done, 311 left, 1,244 rows, ")
    assert lines[1] == "  quota 117 of 250 left, next hour in 59:16"
    words = [line.split() for line in lines[2:]]
    # the source is read to its end, but only a quarter of it has arrived
    assert words[0] == ["VBAK", "reading", "25%", "100", "kB/s", "2:12", "left"]
    assert words[1] == ["VBAP", "job", "RUNNING", "0:34"]
    assert words[2] == ["MSEG", "waiting", "for", "quota", "until", "03:00:00Z"]
    assert len(lines) == 5


def events_time(seconds):
    from pushengine.text import iso_utc

    return iso_utc(seconds)


@pytest.mark.parametrize("height", [1, 2, 3, 5, 10, 24, 50])
@pytest.mark.parametrize("width", [20, 40, 80, 200])
def test_it_fits_any_terminal(clock, width, height):
    terminal = console(width, height)
    live = LiveLoads(terminal, clock=clock)
    live.expect(10**7)
    live.quota(QuotaStatus("acme", "x", 10**6, 10**7, events_time(TWO + 3600)))
    for number in range(40):
        name = (LONG, WIDE, "A\x1b[2JB", "T")[number % 4]
        p = begin(live, f"p{number}", name, size=10**15, sent=10**12, seconds=0.001, clock=clock)
        if number % 3 == 0:
            live.emit(events.QuotaWaited(**p, job_id="j", until="2026-01-01T03:00:00Z", wait_seconds=60, reason="hour"))
        if number % 5 == 0:
            live.emit(events.JobStatusChanged(**p, job_id="j", status="RUNNING" * 20))
    live.finished(load(rows=10**18))
    lines = shown(live, terminal)
    assert len(lines) <= max(height - 2, 1)
    assert max(map(cell_len, lines)) <= width
    assert not any("\x1b" in line for line in lines)


def test_pushes_that_do_not_fit_are_counted_and_those_that_transfer_come_first(clock):
    terminal = console(height=10)
    live = LiveLoads(terminal, clock=clock)
    for number in range(20):
        p = begin(live, f"p{number}", f"T{number}")
        if number < 15:
            live.emit(events.QuotaWaited(**p, job_id="j", until="2026-01-01T03:00:00Z", wait_seconds=60, reason="hour"))
    lines = shown(live, terminal)
    assert len(lines) == 8
    assert [line.split()[0] for line in lines[1:6]] == ["T15", "T16", "T17", "T18", "T19"]
    assert lines[-1] == "  ... and 14 more, all waiting"


def test_a_push_that_ended_has_no_line_and_its_receipt_says_the_quota(clock):
    terminal = console()
    live = LiveLoads(terminal, clock=clock)
    clock.time += 600
    p = begin(live, "p1", "VBAK")
    done = dataclasses.replace(receipt(push_id="p1", table="VBAK"), quota_used=7, quota_limit=250)
    live.emit(events.PushFinished(**p, receipt=done))
    live.finished(load("VBAK", push_id="p1"))
    lines = shown(live, terminal)
    assert lines == [lines[0], "  quota 243 of 250 left, next hour in 50:00"]
    clock.time += 3000
    assert shown(live, terminal)[1] == "  quota 250 of 250 left, next hour in 1:00:00"


def test_failures_scroll_above_and_what_ended_well_does_not(clock):
    terminal = console(width=200)
    live = LiveLoads(terminal, clock=clock)
    live.expect(4)
    live.finished(load("A"))
    live.finished(load("B", "skipped", reason="loaded already"))
    live.finished(load("C", "failed", reason="3 rows do not fit", rows=0))
    live.finished(load("D", "missing", reason="no file newer than 26 h", rows=0, push_id="", is_late=True))
    assert terminal.file.getvalue().splitlines() == [
        "sap.C: failed, push p-C: 3 rows do not fit",
        "sap.D: missing (late): no file newer than 26 h",
    ]
    assert shown(live, terminal)[0].startswith("1 of 4 done, 1 failed, 1 missing, 1 skipped, 0 left")


def test_a_wait_that_all_share_scrolls_by_once(clock):
    terminal = console(width=200)
    live, stream = LiveLoads(terminal, clock=clock), io.StringIO()
    plain = LoadLines(stream, clock=clock)
    for number in range(30):
        p = {"push_id": f"p{number}", "table": f"T{number}", "pool": "p"}
        for one in (live, plain):
            until = f"2026-01-01T03:00:0{number % 3}Z"
            one.emit(events.QuotaWaited(**p, job_id="j", until=until, wait_seconds=1440, reason="hour"))
            one.emit(events.WaitStarted(**p, reason="no call to the platform has succeeded since 02:00:00Z"))
            one.emit(events.QuotaWaited(**p, job_id="j", until=until, wait_seconds=2, reason="turn"))
    wait = "waiting for quota until 03:00:00Z (24:00 min, this hour's quota is used up)"
    outage = "waiting: no call to the platform has succeeded since 02:00:00Z"
    assert terminal.file.getvalue().splitlines() == [wait, outage]
    assert [line.split(" ", 1)[1] for line in stream.getvalue().splitlines()] == [
        f"pushengine: {one}" for one in (wait, outage)
    ]


def test_elsewhere_a_load_has_one_line_at_its_end_with_time_and_push(clock):
    stream = io.StringIO()
    with LoadLines(stream, clock=clock) as lines:
        lines.expect(4)
        begin(lines, "p1", "VBAP", sent=10)
        lines.finished(load("VBAP", started_at=TWO - 12.0, ended_at=TWO))
        lines.finished(load("VBAK", "rejects", rejected=3, generation="2026-11-27"))
        lines.finished(load("MSEG", "blocked", reason="2026-11-26 failed", rows=0, push_id=""))
        lines.note("finishing")
    assert stream.getvalue().splitlines() == [
        "08:00:00Z sap.VBAP: done, 1,234 rows in 12 s, push p-VBAP",
        "08:00:00Z sap.VBAK 2026-11-27: done with rejects, 1,234 rows, 3 rejected, push p-VBAK",
        "08:00:00Z sap.MSEG: blocked: 2026-11-26 failed",
        "08:00:00Z pushengine: finishing",
    ]


def test_a_closed_stream_does_not_end_the_run(clock):
    stream = io.StringIO()
    stream.close()
    LoadLines(stream, clock=clock).finished(load())


def test_in_the_json_log_the_end_of_a_load_is_a_line(capsys):
    configure_logging("json", "info")
    log = LogLoads("pool")
    log.expect(1)
    log.finished(load("VBAP", "missing", reason="no file", push_id=""))
    fields = json.loads(capsys.readouterr().err)
    assert (fields["event"], fields["level"], fields["load"], fields["table"], fields["state"], fields["reason"]) == (
        "load_finished",
        "error",
        "sap",
        "VBAP",
        "missing",
        "no file",
    )


def test_the_quiet_display_shows_nothing(capsys):
    with QuietLoads() as quiet:
        quiet.expect(3)
        begin(quiet, "p1", "T", sent=1)
        quiet.finished(load())
        quiet.note("x")
    assert capsys.readouterr() == ("", "")


def test_a_foreign_name_cannot_forge_a_line():
    stream = io.StringIO()
    LoadLines(stream).finished(load("A\nB\x1b[2J"))
    assert stream.getvalue().count("\n") == 1
    assert "\x1b" not in stream.getvalue()


def test_of_several_teams_the_one_with_the_least_quota_left_is_shown(clock):
    terminal = console()
    live = LiveLoads(terminal, clock=clock)
    for team, spent in (("acme", 10), ("beta", 240)):
        live.quota(QuotaStatus(team, "x", spent, 250, events_time(TWO + 3600)))
    live.emit(
        events.JobSubmitted(push_id="p1", table="T", pool="p", job_id="j", submits=1)
    )  # of which team, it does not say
    assert shown(live, terminal)[1] == "  quota 10 of 250 left, next hour in 1:00:00, beta"
    live.quota(QuotaStatus("acme", "x", 250, 250, events_time(TWO + 3600)))
    assert shown(live, terminal)[1] == "  quota 0 of 250 left, next hour in 1:00:00, acme"


def test_a_quota_that_the_platform_blocks_says_for_how_long(clock):
    terminal = console()
    live = LiveLoads(terminal, clock=clock)
    live.quota(QuotaStatus("acme", "x", 10, 250, events_time(TWO + 3600), events_time(TWO + 90), "429"))
    assert shown(live, terminal)[1] == "  quota 240 of 250 left, the platform refuses submits for 1:30"


def test_the_display_draws_at_once_and_while_events_arrive(clock):
    terminal = console()
    with LiveLoads(terminal, clock=clock) as live:
        assert "starting" in terminal.file.getvalue()
        live.expect(50)
        for number in range(50):
            p = begin(live, f"p{number}", f"T{number}", sent=100)
            live._live.refresh()
            live.emit(events.PushFailed(**p, error="x", error_type="E", receipt=receipt(push_id=f"p{number}")))
            live.finished(load(f"T{number}", "failed", push_id=f"p{number}"))
    assert "sap.T49: failed" in terminal.file.getvalue()
    assert not live._pushes
