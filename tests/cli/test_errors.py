"""How an error is reported: as an exit code, as text for people, and as an object for machines."""

import asyncio
import dataclasses
from pathlib import Path

import pytest
from support.receipts import receipt

from pushengine import errors, redaction
from pushengine.cli.exit_codes import describe_error, error_lines, exit_code_for, failed_receipt
from pushengine.cli.hints import Hints
from pushengine.cli.options import join_optional_value, parse_columns, parse_patience
from pushengine.errors import real_cause
from pushengine.redaction import Secret

AUTH = errors.AuthenticationError("401", status=401)
DENIED = errors.PermissionDeniedError("403", status=403)
RESET = errors.ConnectionFailedError("reset")
CONFIG = errors.ConfigError("bad key")
CLOSED = errors.EngineClosedError("interrupted")
RECEIPT = receipt(
    push_id="p1",
    job_id="j1",
    status="ERROR",
    submits=0,
    chunks=1,
    verified=None,
    job_logs=("column X is missing",),
)


def caused(error, cause):
    error.__cause__ = cause
    return error


def exhausted(cause):
    return caused(errors.RetriesExhaustedError("5 attempts", attempts=5, elapsed_seconds=9), cause)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (CONFIG, 2),
        (errors.SourceReadError("no such file"), 3),
        (errors.SourceChangedError("changed"), 3),
        (errors.SchemaError("type"), 3),
        (errors.ValueMisfitError("value"), 3),
        (RESET, 75),
        (errors.UntrustedServerError("self-signed certificate", phase="tls"), 2),
        (errors.ProxyRefusedError("407", status=407), 4),
        (errors.ProxyRefusedError("403", status=403), 4),
        (errors.ProxyRefusedError("no proxy", status=405), 2),
        (exhausted(errors.ProxyRefusedError("407", status=407)), 4),
        (errors.RequestTimeoutError("slow", phase="read"), 75),
        (errors.OutcomeUnknownError("lost"), 75),
        (AUTH, 4),
        (DENIED, 4),
        (errors.NotFoundError("pool", status=404), 3),
        (errors.ConflictError("409", status=409), 3),
        (errors.PayloadTooLargeError("413", status=413), 3),
        (errors.InvalidRequestError("400", status=400), 3),
        (errors.UnexpectedResponseError("html", status=200), 3),
        (errors.UnexpectedResponseError("not JSON", status=200, disposition="transient"), 75),
        (errors.InvalidRequestError("408", status=408, disposition="transient"), 75),
        (errors.ForeignResponseError("redirect", status=302), 2),
        (errors.ForeignResponseError("HTML", status=404, disposition="transient"), 2),
        (errors.ForeignResponseError("HTML", status=200, disposition="transient"), 75),
        (exhausted(errors.ForeignResponseError("HTML", status=404)), 75),
        (errors.RateLimitedError("429"), 75),
        (errors.ServerError("500", status=500), 75),
        (errors.JobFailedError("ERROR", job_id="j"), 3),
        (errors.JobDeadlineError("still", job_id="j"), 75),
        (errors.JobVanishedError("gone", job_id="j"), 3),
        (errors.VerificationError("differs", job_id="j"), 3),
        (errors.SubmitOutcomeUnknownError("gone", job_id="j"), 6),
        (MemoryError("malloc of size 9 failed"), 75),
        (errors.JobTaintedError("more chunks than were sent", job_id="j"), 3),
        (errors.TableChangedError("changed by another push", source="T"), 3),
        (errors.JournalLockedError("in use", path="q"), 75),
        (errors.JournalCorruptError("damaged", path="q"), 2),
        (errors.JournalVersionError("newer", path="q"), 2),
        (caused(errors.JournalError("no", path="q"), OSError(30, "Read-only file system")), 2),
        (caused(errors.JournalError("no", path="q"), OSError(28, "No space left on device")), 75),
        (caused(errors.JournalError("no", path="q"), ValueError("database or disk is full")), 2),
        (errors.LedgerError("no", path="q"), 2),
        (caused(errors.LedgerError("no", path="q"), OSError("database is locked")), 2),
        (exhausted(RESET), 75),
        (exhausted(AUTH), 4),
        (exhausted(exhausted(DENIED)), 4),
        (CLOSED, 130),
        (KeyboardInterrupt(), 130),
        (asyncio.CancelledError(), 130),
        (ValueError("x"), 1),
        (ExceptionGroup("g", [CLOSED, ExceptionGroup("h", [RESET])]), 75),
        (ExceptionGroup("g", [RESET, AUTH]), 4),
        (ExceptionGroup("g", [RESET, KeyError("x")]), 1),
        (BaseExceptionGroup("g", [asyncio.CancelledError(), CONFIG]), 2),
    ],
    ids=lambda value: value if isinstance(value, int) else repr(value)[:60],
)
def test_exit_code(error, code):
    assert exit_code_for(error) == code


def test_every_error_class_is_in_the_table_of_exit_codes():
    """A new error class needs a deliberate exit code: the table has every leaf of the class tree."""

    def leaves(kind):
        children = kind.__subclasses__()
        return {kind} if not children else set().union(*map(leaves, children))

    tested = {
        type(param[0]) for mark in test_exit_code.pytestmark if mark.name == "parametrize" for param in mark.args[1]
    }
    expected = {kind for kind in leaves(errors.PushEngineError) if kind.__module__ == "pushengine.errors"}
    assert expected <= tested


def test_the_hint_has_its_own_line_and_the_message_starts_with_the_source():
    error = errors.SourceReadError("quote never ends", source="a.csv", position="line 7", hint="look at line 7")
    assert error_lines(error) == ["error: a.csv, line 7: quote never ends", "hint: look at line 7"]


def test_the_hint_of_the_cause_is_used_if_the_error_has_none():
    cause = errors.ConnectionFailedError("no route", hint="check the proxy")
    assert describe_error(exhausted(cause)) == {
        "type": "RetriesExhaustedError",
        "message": "5 attempts",
        "hint": "check the proxy",
    }


def test_a_failed_push_reports_the_state_of_the_table():
    error = errors.JobFailedError("job j1 failed", job_id="j1")
    error.receipt = RECEIPT
    assert error_lines(error) == [
        "error: job j1 failed",
        "  the platform: column X is missing",
        "state: nothing was submitted, the table is unchanged",
    ]


@pytest.mark.parametrize("kind", [lambda: errors.EngineClosedError("interrupted"), asyncio.CancelledError])
def test_an_interrupted_push_says_how_to_resume_it(kind):
    before, after, early = kind(), kind(), kind()
    before.receipt = RECEIPT
    after.receipt = dataclasses.replace(RECEIPT, submits=1, submitted=True)
    early.receipt = dataclasses.replace(RECEIPT, job_id=None, chunks=0)
    assert error_lines(before)[-2:] == [
        "state: nothing was submitted, the table is unchanged; 1 chunk is acknowledged and kept",
        "hint: run the same command again, or: pushengine resume p1",
    ]
    assert error_lines(after)[-2].startswith("state: a submit of job j1 of push p1 was sent")
    assert error_lines(after)[-1].endswith("pushengine resume p1 (it checks job j1 first)")
    assert error_lines(early)[-1] == "hint: run the same command again"


def test_a_push_into_an_embedded_emulator_leaves_nothing_to_resume():
    error = errors.EngineClosedError("interrupted")
    error.receipt = RECEIPT
    assert error_lines(error, hints=Hints(keeps_pushes=False))[-2:] == [
        "state: nothing was submitted, the table is unchanged",
        "hint: run the same command again",
    ]
    assert failed_receipt(error, hints=Hints(keeps_pushes=False))["error"]["hint"] == "run the same command again"


def test_a_temporary_failure_says_what_is_kept():
    error = errors.ConnectionFailedError("no route", hint="check the proxy")
    error.receipt = RECEIPT
    assert error_lines(error)[-2:] == [
        "state: nothing was submitted, the table is unchanged; 1 chunk is acknowledged and kept",
        "hint: check the proxy; run the same command again, or: pushengine resume p1",
    ]


def test_the_hint_to_resume_names_the_config_file_that_was_named():
    lost, stopped = errors.ConnectionFailedError("no route"), errors.EngineClosedError("interrupted")
    lost.receipt = stopped.receipt = RECEIPT
    hints = Hints(config=Path("my configs/night.toml"))
    for error in (lost, stopped):
        hint = "run the same command again, or: pushengine resume p1 --config 'my configs/night.toml'"
        assert error_lines(error, hints=hints)[-1] == f"hint: {hint}"
    assert failed_receipt(stopped, hints=hints)["error"]["hint"] == hint


def test_a_bug_is_described_in_one_line_with_how_to_report_it():
    lines = error_lines(ValueError("strange\nthing"))
    assert lines[0] == "bug: ValueError: strange thing"
    assert "report" in lines[1]
    assert "PUSHENGINE_DEBUG=1" in lines[1]


def test_secrets_are_masked_in_every_error(monkeypatch):
    monkeypatch.setattr(redaction, "_secrets", set())
    redaction.remember_secrets([Secret("hunter2")])
    for error in (ValueError("hunter2"), errors.ConfigError("hunter2", hint="hunter2")):
        assert "hunter2" not in "".join(error_lines(error))
        assert "hunter2" not in str(failed_receipt(error))


def test_a_failed_receipt_has_all_keys_even_if_the_error_has_no_receipt():
    error = errors.ConfigError("x", hint="y")
    bare = failed_receipt(error, table="T", mode="replace")
    assert set(bare) == {*RECEIPT.to_dict(), "error"}
    assert (bare["push_id"], bare["table"], bare["status"], bare["rows"]) == (None, "T", "ERROR", 0)
    assert bare["error"] == {"type": "ConfigError", "message": "x", "hint": "y"}
    error.receipt = RECEIPT
    assert failed_receipt(error)["push_id"] == "p1"
    assert failed_receipt(KeyboardInterrupt(), table="T", mode="replace")["status"] == "INTERRUPTED"


def test_the_real_cause_is_refused_access_before_a_bug_and_an_interruption_last():
    ranked = [exhausted(AUTH), ValueError("x"), RESET, CLOSED, asyncio.CancelledError()]
    for first, expected in enumerate(ranked):
        assert real_cause(BaseExceptionGroup("g", ranked[first:])) is expected
        assert real_cause(BaseExceptionGroup("g", ranked[first:][::-1])) is expected
    assert real_cause(ExceptionGroup("g", [RESET, CONFIG])) is RESET


def test_the_real_cause_is_found_in_nested_groups():
    assert real_cause(ExceptionGroup("a", [CLOSED, ExceptionGroup("b", [CONFIG])])) is CONFIG


@pytest.mark.parametrize(
    ("words", "joined"),
    [
        ("push a.csv --emulator out.duckdb --json", "push a.csv --emulator=out.duckdb --json"),
        ("push a.csv --emulator --table T", "push a.csv --emulator= --table T"),
        ("push a.csv --table T --emulator", "push a.csv --table T --emulator="),
        ("push --emulator a.csv --table T", "push --emulator= a.csv --table T"),
        ("push --emulator X.DB a.csv", "push --emulator=X.DB a.csv"),
        ("push --emulator x.ddb", "push --emulator=x.ddb"),
        ("push --emulator=any a.csv", "push --emulator=any a.csv"),
        ("push -- --emulator a.duckdb", "push -- --emulator a.duckdb"),
        ("emulator --database a.duckdb", "emulator --database a.duckdb"),
    ],
)
def test_the_value_of_the_emulator_option_is_optional(words, joined):
    assert join_optional_value(words.split()) == joined.split()


def test_column_options_are_names_with_types():
    assert parse_columns(["A=float", "B=C=STRING"]) == {"A": "FLOAT", "B=C": "STRING"}
    for word in ("A", "=STRING"):
        with pytest.raises(errors.ConfigError, match="not NAME=TYPE"):
            parse_columns([word])
    with pytest.raises(errors.ConfigError, match="has a type already"):
        parse_columns(["A=FLOAT", "A=STRING"])
    with pytest.raises(errors.ConfigError, match="no such type 'VARCHAR': use one of INTEGER, "):
        parse_columns(["A=VARCHAR"])


def test_the_patience_is_a_duration_and_a_bad_one_is_named_with_its_flag():
    assert [parse_patience(word) for word in (None, "30m", "90")] == [{}, {"patience": 1800.0}, {"patience": 90.0}]
    for word in ("", "soon", "-1", "30 min", "inf"):
        with pytest.raises(errors.ConfigError) as caught:
            parse_patience(word)
        assert caught.value.message == f"--patience {word}: not a duration"
        assert caught.value.hint.startswith("--patience 30m")


def test_a_refused_submit_is_not_reported_as_sent():
    error = errors.AuthenticationError("401", status=401, hint="check the key")
    error.receipt = dataclasses.replace(RECEIPT, submits=1)
    assert error_lines(error)[-2:] == [
        "state: every submit was refused, the table is unchanged; 1 chunk is acknowledged and kept",
        "hint: check the key; run the same command again, or: pushengine resume p1",
    ]


@pytest.mark.parametrize(
    "error",
    [AUTH, RESET, errors.UntrustedServerError("expired", phase="tls"), errors.ProxyRefusedError("407", status=407)],
    ids=lambda one: type(one).__name__,
)
def test_whatever_stops_a_submitted_push_its_error_says_how_to_resume_it(error):
    error = error.replace()
    error.receipt = dataclasses.replace(RECEIPT, submits=1, submitted=True)
    lines = error_lines(error)
    assert lines[-2].startswith("state: a submit of job j1 of push p1 was sent")
    assert lines[-1].endswith("pushengine resume p1 (it checks job j1 first)")
