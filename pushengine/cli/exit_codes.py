"""Convert failures to exit codes for scripts, text for people and JSON objects for machines.

Exit codes
    0    done
    1    a bug in pushengine
    2    usage or configuration; also a quota ledger or journal that is damaged or cannot be accessed on this machine
    3    a push failed: bad source data, a refusal by the platform, or a failed job
    4    authentication or permission
    6    it is unknown whether a submitted job ran; a person has to decide
    75   temporary: network, quota, server, deadline, a push that another process holds, or no disk space left for ledger or journal;
         run the same command again
    130  interrupted; a push of files keeps what it has sent and can be resumed
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

from pushengine import errors
from pushengine.cli.hints import PLAIN, Hints
from pushengine.model import Mode, Receipt

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
)


def exit_code_for(error: BaseException) -> int:
    """Return the exit code for an error. The module docstring explains the codes."""
    cause = errors.real_cause(error)
    if isinstance(cause, KeyboardInterrupt | asyncio.CancelledError | errors.EngineClosedError):
        return EXIT_INTERRUPTED
    if errors.is_access_refused(cause):
        return EXIT_AUTH
    if isinstance(cause, errors.SubmitOutcomeUnknownError):
        return EXIT_OUTCOME_UNKNOWN
    if isinstance(cause, errors.ConfigError | errors.LedgerError | errors.JournalError):
        return EXIT_TEMPORARY if _is_temporary(cause) else EXIT_USAGE
    if isinstance(cause, _TEMPORARY):
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
    what = f" (it checks job {receipt.job_id} first)" if receipt.submits else ""
    return f"run the same command again, or: {hints.resume(receipt.push_id)}{what}"


def error_lines(error: BaseException, *, hints: Hints = PLAIN) -> list[str]:
    """Describe an error for people: what failed, the state of the table, and a hint, each on its own line."""
    error_json = describe_error(error, hints=hints)
    code = exit_code_for(error)
    if code == EXIT_BUG:
        return [f"bug: {error_json['message']}", f"hint: {_REPORT_TO}; PUSHENGINE_DEBUG=1 shows the traceback"]
    if code == EXIT_INTERRUPTED:
        lines = [
            error_json["message"] if error_json["message"] == "interrupted" else f"interrupted: {error_json['message']}"
        ]
    else:
        lines = [f"error: {error_json['message']}"]
    receipt = getattr(errors.real_cause(error), "receipt", None)
    if receipt is not None:
        lines += [f"  the platform: {line}" for line in receipt.job_logs if line not in error_json["message"]]
        if not isinstance(errors.real_cause(error), errors.JournalLockedError):  # only the holder knows the state
            lines.append(f"state: {_state_of_table(receipt)}")
        if hints.keeps_pushes and receipt.job_id is not None and code in (EXIT_INTERRUPTED, EXIT_TEMPORARY):
            lines[-1] += (
                f"; {receipt.chunks:,} {'chunk is' if receipt.chunks == 1 else 'chunks are'} acknowledged and kept"
            )
            if code == EXIT_TEMPORARY:
                error_json["hint"] = "; ".join(filter(None, [error_json["hint"], _hint_to_resume(receipt, hints)]))
    return lines + ([f"hint: {error_json['hint']}"] if error_json["hint"] else [])


def _state_of_table(receipt: Receipt) -> str:
    if not receipt.submits:
        return "nothing was submitted, the table is unchanged"
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
