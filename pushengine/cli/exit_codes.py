"""Convert failures to exit codes for scripts, text for people and JSON objects for machines.

Exit codes
    0    done
    1    a bug in pushengine
    2    usage or configuration: also a path that cannot be used on this machine, an address without a platform or with an untrusted
         certificate, and a damaged quota ledger or journal
    3    a push failed: bad source data, a refusal by the platform, or a failed job
    4    authentication or permission, also of a proxy
    6    it is unknown whether a submitted job ran; a person has to decide
    75   temporary: network, quota, server, deadline, a push that another process holds, a full disk or too many open files; run the same
         command again
    130  interrupted; a push of files keeps what it has sent and can be resumed
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any, cast

from pushengine import errors
from pushengine.cli.hints import PLAIN, Hints
from pushengine.model import Mode, Receipt
from pushengine.text import format_count, some_lines

EXIT_BUG = 1
EXIT_USAGE = 2
EXIT_FAILED = 3
EXIT_AUTH = 4
EXIT_OUTCOME_UNKNOWN = 6
EXIT_TEMPORARY = 75
EXIT_INTERRUPTED = 130

_REPORT_TO = "please report it with this line and what you ran"
_TEMPORARY = (
    errors.TransportError,
    errors.RateLimitedError,
    errors.ServerError,
    errors.RetriesExhaustedError,
    errors.JobDeadlineError,
    errors.JournalLockedError,
    MemoryError,
)


def exit_code_for(error: BaseException) -> int:  # noqa: PLR0911 - one flat table
    """Return the exit code for an error. The module docstring explains the codes."""
    cause = errors.real_cause(error)
    if isinstance(cause, KeyboardInterrupt | asyncio.CancelledError | errors.EngineClosedError):
        return EXIT_INTERRUPTED
    if errors.is_access_refused(cause):
        return EXIT_AUTH
    if isinstance(cause, errors.SubmitOutcomeUnknownError):
        return EXIT_OUTCOME_UNKNOWN
    if errors.is_wrong_address(cause):
        return EXIT_USAGE
    if isinstance(cause, errors.ConfigError | errors.LedgerError | errors.JournalError):
        return EXIT_TEMPORARY if _is_temporary(cause) else EXIT_USAGE
    if isinstance(cause, _TEMPORARY) or (isinstance(cause, errors.ApiError) and cause.disposition == "transient"):
        return EXIT_TEMPORARY
    return EXIT_FAILED if isinstance(cause, errors.PushEngineError) else EXIT_BUG


def _is_temporary(error: errors.PushEngineError) -> bool:
    from pushengine.state.file_errors import is_temporary

    return isinstance(error, errors.JournalLockedError) or is_temporary(error.__cause__)


def describe_error(error: BaseException, *, hints: Hints = PLAIN) -> dict[str, str]:
    """Return type, message and hint of an error, without secrets."""
    from pushengine.redaction import mask

    cause = errors.real_cause(error)
    if isinstance(cause, KeyboardInterrupt | asyncio.CancelledError):
        return {
            "type": "Interrupted",
            "message": "aborted",
            "hint": _hint_after_interrupt(cause, hints),
        }
    if isinstance(cause, errors.EngineClosedError):
        return {
            "type": type(cause).__name__,
            "message": mask(cause.message),
            "hint": _hint_after_interrupt(cause, hints),
        }
    if isinstance(cause, MemoryError):
        return {
            "type": "MemoryError",
            "message": "this machine has too little free memory",
            "hint": "lower max_memory_bytes, or run fewer pushes at a time",
        }
    if not isinstance(cause, errors.PushEngineError):
        text = " ".join(str(cause).split())
        message = mask(f"{type(cause).__name__}: {text}" if text else type(cause).__name__)
        return {"type": type(cause).__name__, "message": message, "hint": _REPORT_TO}
    where = (cause.source, cause.position or "") if isinstance(cause, errors.SourceError) else ()
    prefix = "".join(f"{part}: " for part in (", ".join(part for part in where if part),) if part)
    found = (link.hint for link in errors.iter_causes(cause) if isinstance(link, errors.PushEngineError))
    hint = next((hint for hint in found if hint), "")
    return {"type": type(cause).__name__, "message": mask(prefix + cause.message), "hint": mask(hint)}


def _hint_after_interrupt(cause: BaseException, hints: Hints) -> str:
    receipt = getattr(cause, "receipt", None)
    if not isinstance(receipt, Receipt) or receipt.job_id is None or not hints.keeps_pushes:
        return "run the same command again"
    return _hint_to_resume(receipt, hints)


def _hint_to_resume(receipt: Receipt, hints: Hints) -> str:
    what = f" (it checks job {receipt.job_id} first)" if receipt.submitted else ""
    return f"run the same command again, or: {hints.resume(receipt.push_id)}{what}"


def error_lines(error: BaseException, *, hints: Hints = PLAIN) -> list[str]:
    """Describe an error for people: what failed, the state of the table, and a hint, each on its own line."""
    found = failure_fields(error, hints=hints)
    message, code = found["error"], found["exit_code"]
    if code == EXIT_BUG:
        lines = [f"bug: {message}"]
    elif code == EXIT_INTERRUPTED:
        lines = [message if message == "interrupted" else f"interrupted: {message}"]
    elif problems := getattr(errors.real_cause(error), "problems", ()):
        lines = _problem_lines(message, problems)
    else:
        lines = [f"error: {message}"]
    receipt = getattr(errors.real_cause(error), "receipt", None)
    if receipt is not None and code != EXIT_BUG:
        lines += [f"  the platform: {line}" for line in some_lines(receipt.job_logs) if line not in message]
    lines += [f"state: {found['state']}"] if found["state"] and code != EXIT_BUG else []
    return lines + ([f"hint: {found['hint']}"] if found["hint"] else [])


def _problem_lines(message: str, problems: Sequence[str]) -> list[str]:
    """Return a line for each thing that is wrong with a config file, after one that says how many there are."""
    from pushengine.redaction import mask

    if len(problems) == 1:
        return [f"error: {message}"]
    place = message.partition(f": {mask(problems[0])}")[0]
    return [f"error: {place}: {format_count(len(problems), 'problem')}", *(f"  {mask(line)}" for line in problems)]


def failure_fields(error: BaseException, *, hints: Hints = PLAIN) -> dict[str, Any]:
    """Return what a JSON line says of a failure: the error, the state of the table, a hint, and the ids of the push."""
    found, code = describe_error(error, hints=hints), exit_code_for(error)
    receipt = getattr(errors.real_cause(error), "receipt", None)
    state, hint, ids = "", found["hint"], {}
    if code == EXIT_BUG:
        hint = f"{hint}; PUSHENGINE_DEBUG=1 shows the traceback"
    if receipt is not None:
        ids = {"push_id": receipt.push_id, "table": receipt.table, "job_id": receipt.job_id}
        if not isinstance(errors.real_cause(error), errors.JournalLockedError):  # only the holder knows the state
            state = _state_of_table(receipt)
        if hints.keeps_pushes and receipt.job_id is not None and _is_kept(errors.real_cause(error), code):
            kept = f"{receipt.chunks:,} {'chunk is' if receipt.chunks == 1 else 'chunks are'} acknowledged and kept"
            state = "; ".join(filter(None, [state, kept]))
            if code != EXIT_INTERRUPTED:
                hint = "; ".join(filter(None, [hint, _hint_to_resume(receipt, hints)]))
        if hints.keeps_pushes and code == EXIT_OUTCOME_UNKNOWN:
            hint = f"{hint}; {hints.show(receipt.push_id)} says what is known"
    return {
        "error": found["message"],
        "error_type": found["type"],
        "state": state,
        "hint": hint,
        "exit_code": code,
        **ids,
    }


def traceback_lines(error: BaseException) -> list[str]:
    """Return the traceback of an error and its causes, without secrets; each message is one line, whatever it contains."""
    from pushengine.redaction import mask

    return [mask(line) for line in _traceback_lines(error, set())]


def _traceback_lines(error: BaseException, seen: set[int]) -> Iterator[str]:
    import traceback

    seen.add(id(error))
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None and id(cause) not in seen:
        yield from _traceback_lines(cause, seen)
        yield "which caused:" if error.__cause__ is not None else "while it was handled:"
    yield "Traceback (most recent call last):"
    for entry in traceback.format_tb(error.__traceback__):
        yield from entry.rstrip("\n").split("\n")
    yield f"{type(error).__module__}.{type(error).__qualname__}: {error}"
    for number, one in enumerate(error.exceptions if isinstance(error, BaseExceptionGroup) else (), 1):
        yield f"error {number} of the group:"
        yield from (f"  {line}" for line in _traceback_lines(one, seen))


def _is_kept(error: BaseException, code: int) -> bool:
    """Return whether the push can be resumed: it was stopped, or what stopped it may pass or can be fixed."""
    is_fixable = isinstance(error, errors.UntrustedServerError | errors.ProxyRefusedError)
    return is_fixable or code in (EXIT_INTERRUPTED, EXIT_TEMPORARY, EXIT_AUTH)


def _state_of_table(receipt: Receipt) -> str:
    if not receipt.submitted:
        what = "every submit was refused" if receipt.submits else "nothing was submitted"
        return f"{what}, the table is unchanged"
    return f"a submit of job {receipt.job_id} of push {receipt.push_id} was sent"


def failed_receipt(
    error: BaseException, *, table: str | None = None, mode: str | None = None, hints: Hints = PLAIN
) -> dict[str, Any]:
    """Return what `--json` prints for a failed push: the receipt, or an empty one if the push did not get that far, and the error."""
    receipt = getattr(errors.real_cause(error), "receipt", None)
    if isinstance(receipt, Receipt):
        receipt_json = receipt.to_dict()
    else:
        nothing = Receipt(
            push_id="",
            job_id=None,
            table=table or "",
            mode=cast("Mode", mode),
            status="INTERRUPTED" if exit_code_for(error) == EXIT_INTERRUPTED else "ERROR",
            rows=0,
            chunks=0,
            payload_bytes=0,
            source_bytes=0,
            elapsed_seconds=0.0,
            retries=0,
            submits=0,
            restarts=0,
            resumed=False,
            verified=None,
            job_logs=(),
        )
        receipt_json = {**nothing.to_dict(), "push_id": None, "table": table}
    return {**receipt_json, "error": describe_error(error, hints=hints)}
