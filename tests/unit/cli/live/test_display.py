"""The output for people, derived only from events."""

import dataclasses
import datetime as dt
import io
from pathlib import Path

import pytest
from rich.console import Console
from support.receipts import receipt

from pushengine import events
from pushengine import text as text_of
from pushengine.cli import describe
from pushengine.cli.hints import Hints
from pushengine.cli.live import display
from pushengine.cli.live.colors import print_lines
from pushengine.model import CheckResult, Job, JobId, JobStatus, Plan, QuotaStatus, RemoteChunk, TableColumn

RECEIPT = receipt(
    push_id="p1",
    job_id="j1",
    table="VBAK",
    mode="replace",
    status="DONE",
    rows=1_234_567,
    chunks=3,
    payload_bytes=20_000_000,
    source_bytes=100_000_000,
    elapsed_seconds=10.0,
    verified="checksum",
    quota_used=3,
    quota_limit=250,
)
QUOTA = QuotaStatus("acme", "2026-01-01T13:00:00Z", 3, 250, "2026-01-01T14:00:00Z")


class Clock:
    """A clock that the test advances."""

    def __init__(self):
        self.time = 100.0

    def now(self):
        return self.time

    def monotonic(self):
        return self.time


def push_events(chunks=2):
    """Yield the events of a whole push."""
    p = {"push_id": "p1"}
    yield events.PushStarted(**p, table="VBAK", mode="replace", source="vbak.csv", source_bytes=1000, columns=4)
    yield events.JobCreated(**p, job_id="j1")
    for number in range(chunks):
        chunk = f"{number:06d}"
        yield events.ChunkRead(**p, chunk_id=chunk, source_bytes_read=1000 * (number + 1) // chunks)
        yield events.ChunkEncoded(**p, chunk_id=chunk, rows=10, payload_bytes=100)
        yield events.UploadStarted(**p, chunk_id=chunk, job_id="j1", attempt=1, payload_bytes=100)
        yield events.ChunkUploaded(**p, chunk_id=chunk, job_id="j1", rows=10, payload_bytes=100, elapsed_seconds=1)
    yield events.SourceAcknowledged(**p, job_id="j1", rows=10 * chunks)
    yield events.JobVerified(**p, job_id="j1", chunks=chunks, verified="checksum")
    yield events.QuotaWaited(**p, job_id="j1", until="2026-01-01T14:00:00Z", wait_seconds=600, reason="hour")
    yield events.JobSubmitted(**p, job_id="j1", submits=1)
    yield events.JobStatusChanged(**p, job_id="j1", status="DONE")
    yield events.JobSettled(**p, job_id="j1", status="DONE", logs=())
    yield events.PushFinished(**p, receipt=RECEIPT)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (45_300_000, "45.3 MB"),
        (456e6, "456 MB"),
        (1.2e9, "1.20 GB"),
        (5e15, "5,000.00 TB"),
    ],
)
def test_sizes_have_three_significant_digits(size, text):
    assert text_of.format_bytes(size) == text


@pytest.mark.parametrize(("seconds", "text"), [(1.23, "1.2 s"), (45.4, "45 s"), (125, "2:05 min"), (3725, "1:02:05 h")])
def test_durations_are_formatted_like_a_clock(seconds, text):
    assert text_of.format_seconds(seconds) == text


def test_progress_sums_the_events_and_computes_the_rate():
    progress, now = display.Progress(), 0.0
    for event in push_events():
        now += 1
        progress.apply(event, now)
    assert (progress.rows_read, progress.chunks_sent, progress.bytes_sent, progress.in_flight) == (20, 2, 200, set())
    assert progress.fraction_sent == 1.0
    assert progress.payload_rate == pytest.approx(200 / 5)
    assert progress.phase == "job DONE"


def test_a_restart_resets_the_progress_to_zero():
    progress = display.Progress()
    for event in list(push_events())[:8]:
        progress.apply(event, 1.0)
    progress.apply(events.PushRestarted(push_id="p1", job_id="j1", restarts=1, reason="x"), 2.0)
    assert (progress.rows_read, progress.chunks_sent, progress.bytes_sent) == (0, 0, 0)
    assert not progress.in_flight
    assert progress.payload_rate is None
    assert progress.restarts == 1


def test_the_fraction_is_unknown_if_the_source_has_no_size_or_position():
    assert display.Progress(source_bytes=None, source_bytes_read=5).fraction_sent is None
    assert display.Progress(source_bytes=10, source_bytes_read=None).fraction_sent is None
    assert display.Progress(source_bytes=10, source_bytes_read=20, source_bytes_sent=20).fraction_sent == 1.0


def test_plain_display_writes_the_important_events_in_order():
    stream = io.StringIO()
    with display.PlainDisplay(stream, clock=Clock()) as plain:
        for event in push_events():
            plain.emit(event)
    assert stream.getvalue().splitlines() == [
        "00:01:40Z VBAK: replace from vbak.csv, 1.00 kB, 4 columns",
        "00:01:40Z VBAK: job j1 created",
        "00:01:40Z VBAK: 20 rows read, 2 chunks sent, 200 B, 200 kB/s; chunk list verified by checksum",
        "00:01:40Z VBAK: waiting for quota until 14:00:00Z (10:00 min, this hour's quota is used up)",
        "00:01:40Z VBAK: job is DONE",
    ]


def test_plain_display_writes_progress_about_every_five_seconds():
    stream, clock = io.StringIO(), Clock()
    plain = display.PlainDisplay(stream, clock=clock)
    for event in list(push_events(chunks=100))[:-6]:
        clock.time += 0.1  # 40 seconds in all
        plain.emit(event)
    assert 6 <= len([line for line in stream.getvalue().splitlines() if " sent" in line]) <= 9


def test_plain_display_shows_the_warnings_of_the_engine():
    stream = io.StringIO()
    plain = display.PlainDisplay(stream, clock=Clock())
    plain.emit(
        events.RetryScheduled(push_id="p", operation="upload of 000001", attempt=1, wait_seconds=0.8, error="reset")
    )
    plain.emit(events.PushRestarted(push_id="p", job_id=None, restarts=1, reason="a longer text"))
    plain.emit(events.JobDeleted(push_id="p", job_id="j", error=None))
    plain.emit(events.JobDeleted(push_id="p", job_id="j", error="403"))
    assert [line.partition(": ")[2] for line in stream.getvalue().splitlines()] == [
        "upload of 000001: attempt 1 failed, retrying in 0.8 s: reset",
        "restarting in a fresh job: a longer text",
        "unsubmitted job deleted",
        "job j could not be deleted: 403",
    ]


def test_the_hint_about_a_push_left_unfinished_names_the_config_file_that_was_named():
    left = events.EarlierPushLeft(push_id="p0", table="T", mode="append")
    hints = Hints(config=Path("night.toml"))
    stream, file = io.StringIO(), io.StringIO()
    display.PlainDisplay(stream, hints=hints).emit(left)
    display.LiveDisplay(Console(file=file, width=250), hints=hints).emit(left)
    for shown in (stream, file):
        assert shown.getvalue().endswith("to resume it: pushengine resume p0 --config night.toml\n")


def test_plain_display_of_a_resumed_push_shows_what_is_acknowledged_and_why_it_waits():
    stream = io.StringIO()
    with display.PlainDisplay(stream, clock=Clock()) as plain:
        old, p = {"push_id": "p0"}, {"push_id": "p1"}
        plain.emit(events.PushSuperseded(**old, reason="the source has changed since"))
        plain.emit(events.PushResumed(**p, job_id="j1", chunks_acknowledged=41, rows_acknowledged=2_100_000))
        plain.emit(events.PushStarted(**p, table="T", mode="replace", source="a.csv", source_bytes=None, columns=1))
        for chunk, is_present in (("000041", True), ("000042", False)):
            plain.emit(events.ChunkReconciled(**p, job_id="j1", chunk_id=chunk, is_present=is_present, how="checksum"))
        plain.emit(events.JobVerified(**p, job_id="j1", chunks=43, verified="checksum"))
        plain.emit(
            events.QuotaWaited(**p, job_id="j1", until="2026-01-01T14:00:00Z", wait_seconds=60, reason="quarantine")
        )
    assert stream.getvalue().splitlines() == [
        "00:01:40Z pushengine: the unfinished push p0 is superseded by a new one: the source has changed since",
        "00:01:40Z pushengine: resuming push p1: 41 of its chunks, 2.1 M rows, are already acknowledged",
        "00:01:40Z T: replace from a.csv, 1 column",
        "00:01:40Z T: chunk 000041, whose upload was not acknowledged, has arrived (compared by checksum)",
        "00:01:40Z T: chunk 000042, whose upload was not acknowledged, has not arrived (compared by checksum); sending it again",
        "00:01:40Z T: 0 rows read, 0 chunks sent (and 41 before this session); chunk list verified by checksum",
        "00:01:40Z T: waiting until 14:00:00Z so that a lost upload cannot arrive late (1:00 min)",
    ]


def test_a_wait_for_earlier_submits_and_a_corrected_ledger_are_shown():
    stream, file, p = io.StringIO(), io.StringIO(), {"push_id": "p1", "job_id": "j1"}
    emitted = [
        events.QuotaWaited(**p, until="2026-01-01T14:00:00Z", wait_seconds=27.4, reason="turn"),
        events.QuotaLedgerCorrected(**p, message="the quota ledger was written by a clock that was ahead"),
    ]
    console = Console(file=file, force_terminal=True, width=150, color_system=None)
    with display.PlainDisplay(stream, clock=Clock()) as plain, display.LiveDisplay(console) as live:
        for event in emitted:
            plain.emit(event)
            live.emit(event)
    assert stream.getvalue().splitlines() == [
        "00:01:40Z pushengine: waiting for earlier submits until about 14:00:00Z (27 s)",
        "00:01:40Z pushengine: the quota ledger was written by a clock that was ahead",
    ]
    assert "the quota ledger was written by a clock that was ahead" in file.getvalue()


def test_live_display_prints_the_lines_of_a_resumed_push_above_the_progress():
    file = io.StringIO()
    with display.LiveDisplay(Console(file=file, force_terminal=True, width=150, color_system=None)) as live:
        live.emit(events.PushResumed(push_id="p1", job_id=None, chunks_acknowledged=0, rows_acknowledged=0))
        live.emit(events.ChunkReconciled(push_id="p1", job_id="j", chunk_id="000001", is_present=True, how="count"))
        live.emit(
            events.QuotaWaited(
                push_id="p1", job_id="j", until="2026-01-01T14:00:00Z", wait_seconds=9, reason="quarantine"
            )
        )
    for words in ("none of its chunks is acknowledged yet", "has arrived (compared by count)", "cannot arrive late"):
        assert words in file.getvalue()


def test_receipt_of_a_resumed_push_counts_what_had_already_been_sent():
    resumed = events.PushResumed(push_id="p1", job_id="j1", chunks_acknowledged=2, rows_acknowledged=1_000_000)
    receipt = dataclasses.replace(RECEIPT, resumed=True)
    line = describe.describe_receipt(receipt, None, resumed)[4]
    assert line == "  resumed   2 of 3 chunks, 1,000,000 rows, had already been sent"
    assert "an earlier process started the push" in describe.describe_receipt(receipt)[4]


def test_receipt_of_a_resumed_push_shows_no_speed():
    """Its rows and bytes are those of the whole push, its seconds only those of the last session."""
    resumed = describe.describe_receipt(dataclasses.replace(RECEIPT, resumed=True))
    assert sum("/s" in line for line in describe.describe_receipt(RECEIPT)) == 2
    assert not any("/s" in line for line in resumed)


def test_receipt_of_a_push_that_restarted_reuses_no_earlier_chunks():
    """The chunks were in a job that is gone; all of them were sent again."""
    resumed = events.PushResumed(push_id="p1", job_id="j1", chunks_acknowledged=2, rows_acknowledged=1_000_000)
    receipt = dataclasses.replace(RECEIPT, resumed=True, restarts=1)
    assert "could not be reused" in describe.describe_receipt(receipt, None, resumed)[4]


def test_a_closed_stream_does_not_end_the_push():
    stream = io.StringIO()
    stream.close()
    display.PlainDisplay(stream).note("x")


def test_live_display_shows_the_current_progress():
    clock = Clock()
    console = Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None)
    live = display.LiveDisplay(console, clock=clock)
    every = list(push_events())
    for event in every[:5]:
        clock.time += 1
        live.emit(event)
    with console.capture() as captured:
        console.print(live.render())
    text = captured.get()
    for part in ("VBAK", "replace", "uploading", "10 rows read", "1 in flight", "job j1", "0:05"):
        assert part in text
    for event in every[5:]:
        live.emit(event)
        if isinstance(event, events.QuotaWaited):
            with console.capture() as captured:
                console.print(live.render())
            assert "waiting for quota until 14:00:00Z" in captured.get()


def test_live_display_starts_and_stops_and_prints_warnings_above_the_progress():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=60, color_system=None)
    with display.LiveDisplay(console) as live:
        for event in push_events():
            live.emit(event)
        live.emit(events.RetryScheduled(push_id="p", operation="upload", attempt=1, wait_seconds=1, error="reset"))
        live.note("finishing")
    assert "upload: attempt 1 failed" in file.getvalue()
    assert "finishing" in file.getvalue()


def test_quiet_display_is_silent(capsys):
    with display.QuietDisplay() as quiet:
        for event in push_events():
            quiet.emit(event)
        quiet.note("x")
    assert capsys.readouterr() == ("", "")


def test_receipt_shows_rows_bytes_verification_job_and_quota():
    assert describe.describe_receipt(RECEIPT, QUOTA) == [
        "DONE  VBAK  replace, 10 s",
        "  rows      1,234,567 in 3 chunks, 123,457 rows/s",
        "  bytes     100 MB read -> 20.0 MB sent, 10.0 MB/s",
        "  verified  the platform's checksum of every chunk matches",
        "  push      p1",
        "  job       j1",
        "  quota     3 of 250 submits this hour (resets 14:00Z)",
    ]


def test_receipt_shows_repairs_and_job_logs_if_there_are_any():
    receipt = dataclasses.replace(
        RECEIPT, retries=1, restarts=2, verified="count", job_logs=("one", "two"), quota_used=None
    )
    lines = describe.describe_receipt(receipt)
    assert lines[3] == "  verified  the platform holds 3 chunks, as sent (it returned no checksum to compare)"
    assert lines[6:] == ["  repaired  1 retry, 2 restarts", "  job log   one", "            two"]


def test_plan_shows_its_columns_with_their_lengths():
    plan = Plan(
        table="T",
        mode="upsert",
        keys=("ID",),
        files=tuple(f"{n}.csv" for n in range(7)),
        source_bytes=2000,
        columns=(TableColumn("ID", "STRING", 80), TableColumn("N", "INTEGER")),
        sampled_rows=5,
        is_sample_complete=True,
        estimated_chunks=2,
        notes=("mind this",),
        schema=(
            {"name": "ID", "type": "STRING", "length": 80, "reason": "not INTEGER", "value": "'007'"},
            {"name": "N", "type": "INTEGER", "length": None, "reason": "every value fits", "value": ""},
        ),
        schema_changes=("N: new column",),
        first_rows=({"ID": "007", "N": None}, {"ID": "x\x1b[2J", "N": "5"}),
    )
    text = "\n".join(describe.describe_plan(plan))
    for part in (
        "PLAN  T  upsert",
        "0.csv",
        "... 2 more",
        "5 rows, the whole source",
        "about 2",
        "1 submit",
        "mind this",
        "ID  STRING(80)  not INTEGER: '007'",
        "N   INTEGER     every value fits",
        "N: new column",
        "007       NULL",
        "x\\x1b[2J  5",
    ):
        assert part in text
    unknown = dataclasses.replace(plan, source_bytes=None, is_sample_complete=False, estimated_chunks=None)
    text = "\n".join(describe.describe_plan(unknown))
    assert "unknown size" in text
    assert "5 rows sampled" in text


def test_quota_shows_what_is_left_when_it_resets_and_what_blocks_it():
    lines = describe.describe_quota(QUOTA)
    assert lines[0] == "acme: 247 of 250 submits left this hour, 3 spent, resets 14:00:00Z"
    blocked = dataclasses.replace(
        QUOTA,
        blocked_until="2026-01-01T13:30:00Z",
        blocked_reason="the server refused a submit (429) and named no time",
    )
    lines = describe.describe_quota(blocked)
    assert "0 of 250 submits left" in lines[0]
    assert lines[1] == "  no submits until 13:30:00Z: the server refused a submit (429) and named no time"
    assert "pushengine quota reset" in lines[2]
    tomorrow = dataclasses.replace(blocked, blocked_until="2026-01-02T11:30:00Z")
    assert describe.describe_quota(tomorrow)[1].startswith("  no submits until 2026-01-02 11:30:00Z: ")


def test_the_remedy_of_a_failed_check_is_on_the_line_below_it():
    results = [
        CheckResult("URL", is_ok=True, detail="responds"),
        CheckResult("credentials", is_ok=False, detail="401", remedy="make a new key"),
        CheckResult("pool", is_ok=None, detail="not checked", remedy="also shown, since it may still apply"),
    ]
    lines = describe.describe_checks(results)
    assert lines[0] == "ok      URL          responds"
    assert lines[1] == "FAILED  credentials  401"
    assert lines[2].strip() == "-> make a new key"
    assert lines[3].startswith("skipped pool")


def test_jobs_are_shown_as_a_table_and_one_job_with_its_chunks_and_logs():
    job = Job(JobId("j1"), JobStatus.ERROR, "T", "REPLACE", ("boom",), dt.datetime(2026, 1, 1, 13, tzinfo=dt.UTC))
    assert describe.describe_jobs([]) == ["no push jobs in this pool"]
    assert describe.describe_jobs([job, Job(JobId("j2"), JobStatus.NEW)]) == [
        "JOB  STATUS  TYPE     TABLE  LAST CHANGE",
        "j1   ERROR   REPLACE  T      2026-01-01 13:00:00Z",
        "j2   NEW     -        -      -",
    ]
    assert describe.describe_job(job, [RemoteChunk("c1", "UPSERT", None)]) == [
        "job j1",
        "  status    ERROR",
        "  table     T",
        "  type      REPLACE",
        "  chunks    1",
        "            c1  UPSERT  -",
        "  log       boom",
    ]


def test_printed_lines_are_neither_changed_nor_wrapped():
    stream = io.StringIO()
    lines = [*describe.describe_receipt(RECEIPT, QUOTA), "error: [red]not markup[/red] :smile: " + "x" * 300]
    print_lines(lines, stream)
    assert stream.getvalue().splitlines() == lines
