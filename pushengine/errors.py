"""Every error that pushengine raises on purpose.

```
PushEngineError                    base; .hint tells the user what to do next
├── ConfigError                    bad file, key, value or argument; names the key
├── SourceError                    .source, .position
│   ├── SourceReadError            unreadable or malformed input (file, line or row group)
│   │   └── SourceChangedError     files are not what they were when they were sent
│   └── SchemaError                unsupported type, or a batch that does not match
│       └── ValueMisfitError       a value outside the settled schema, which a wider schema would hold
├── TransportError                 no answer was received
│   ├── ConnectionFailedError      nothing was sent: always safe to retry
│   ├── RequestTimeoutError        .phase = connect | write | read | pool
│   └── OutcomeUnknownError        sent, no answer, and the call is not idempotent
├── ApiError                       an answer was received; .status .code .request_id
│   ├── AuthenticationError        401
│   ├── PermissionDeniedError      403
│   ├── NotFoundError              404
│   ├── ConflictError              409
│   ├── PayloadTooLargeError       413
│   ├── RateLimitedError           429, .retry_after_seconds
│   ├── InvalidRequestError        any other 4xx
│   ├── ServerError                5xx
│   └── UnexpectedResponseError    answer does not parse or breaks the contract
├── JobError                       .job_id
│   ├── JobFailedError             the server finished the job with an error; .status .server_message
│   ├── JobDeadlineError           still not final at the deadline
│   ├── JobVanishedError           an unsubmitted job is gone (the platform deletes them in time)
│   ├── SubmitOutcomeUnknownError  the job vanished after a submit: nobody can say whether it ran
│   ├── VerificationError          the chunk list is not what was sent; the job was not submitted
│   └── JobTaintedError            it may hold rows that are not ours to submit; it is deleted, the push starts afresh
├── JournalError                   the journal cannot be used; .path
│   ├── JournalLockedError         another process works on the same push
│   ├── JournalCorruptError        the database fails its integrity check
│   └── JournalVersionError        written by a newer version
├── LedgerError                    the quota ledger cannot be used; .path
├── RetriesExhaustedError          .attempts .elapsed_seconds; the last error is __cause__
└── EngineClosedError              used after aclose(), or drained
```

A test compares this drawing with the classes. Branch on class and attributes, never on the text of a message. A message holds what
failed, on what (ids, not payloads), after how many attempts; the hint says what to do. Neither holds a secret or row data beyond the
one value that a source error is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack

if TYPE_CHECKING:
    from pushengine.model import Receipt

Disposition = Literal["transient", "terminal", "outcome_unknown"]
_Error = TypeVar("_Error", bound="PushEngineError")
TimeoutPhase = Literal["connect", "write", "read", "pool"]


class _Common(TypedDict, total=False):
    """What every error can be given besides its own attributes; see `PushEngineError`."""

    hint: str
    disposition: Disposition | None


class _ResponseFields(_Common, total=False):
    """What every `ApiError` can be given besides its status."""

    code: str | None
    request_id: str | None


class PushEngineError(Exception):
    """Base of all errors of this package. One is complete when it is made; `replace` makes another that says something else.

    Attributes:
        hint: What the user can do next; may be empty.
        disposition: Whether another attempt can help, where it is not what the class says; read by `pushengine.pipeline.retry` only.
        receipt: Set when the error ended a push: what was done until then.
    """

    disposition: Disposition = "terminal"
    receipt: Receipt | None = None

    def __init__(self, message: str, *, hint: str = "", disposition: Disposition | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if disposition is not None:
            self.disposition = disposition

    def replace(
        self, *, message: str | None = None, hint: str | None = None, disposition: Disposition | None = None
    ) -> Self:
        """A copy that says something else, with the same attributes, receipt, notes, cause and traceback.

        To be raised in place of this one: `raise error.replace(hint=...) from error.__cause__`.
        """
        other: Self = _restored(type(self), self.args, self.__dict__)
        if "__notes__" in other.__dict__:
            other.__notes__ = [*self.__notes__]
        if message is not None:
            other.message, other.args = message, (message, *self.args[1:])
        if hint is not None:
            other.hint = hint
        if disposition is not None:
            other.disposition = disposition
        other.__cause__, other.__context__ = self.__cause__, self.__context__
        other.__suppress_context__ = self.__suppress_context__
        return other.with_traceback(self.__traceback__)

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles with all attributes: schedulers bring errors over from worker processes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[_Error], args: tuple[Any, ...], state: dict[str, Any]) -> _Error:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigError(PushEngineError):
    """A bad config file, key, value or argument.

    Attributes:
        key: The setting at fault, as its user wrote it, or None.
    """

    def __init__(self, message: str, *, key: str | None = None, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.key = key


class SourceError(PushEngineError):
    """Something is wrong with the rows to be pushed.

    Attributes:
        source: The file or object at fault.
        position: Where in it ("line 7", "row 12, column AMOUNT"), or None.
    """

    def __init__(
        self, message: str, *, source: str = "", position: str | None = None, **common: Unpack[_Common]
    ) -> None:
        super().__init__(message, **common)
        self.source = source
        self.position = position

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.source, self.position) if part)
        text = super().__str__()
        return f"{where}: {text}" if where else text


class SourceReadError(SourceError):
    """Input that cannot be read or parsed."""


class SourceChangedError(SourceReadError):
    """Files are not what they were when they were sent. Nothing of them was submitted."""


def unreadable(source: str, exc: OSError) -> SourceReadError:
    """What the operating system said of a source, as our error."""
    return SourceReadError(exc.strerror or str(exc) or type(exc).__name__, source=source)


def damaged(kind: str, what: str, *, source: str, position: str | None = None) -> SourceReadError:
    """The error for a file that is not what its format promises; `kind` is the format, `what` the library's words."""
    return SourceReadError(
        f"not a readable {kind} file: {what}", source=source, position=position, hint="is it complete?"
    )


class SchemaError(SourceError):
    """A type that the target cannot hold, or a value or batch that does not match the settled schema."""


class ValueMisfitError(SchemaError):
    """A value that does not fit the schema settled from a sample: the push starts again with what the whole source teaches."""


class TransportError(PushEngineError):
    """No answer was received."""

    disposition: Disposition = "transient"


class ConnectionFailedError(TransportError):
    """The connection was not made: nothing was sent, another attempt is always safe."""


class RequestTimeoutError(TransportError):
    """An idempotent call took too long.

    Attributes:
        phase: connect, write, read or pool.
    """

    def __init__(self, message: str, *, phase: TimeoutPhase, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.phase = phase


class OutcomeUnknownError(TransportError):
    """Sent, not answered, and the call is not idempotent: it may have been done. Reconcile, never resend blindly."""

    disposition: Disposition = "outcome_unknown"


class ApiError(PushEngineError):
    """An answer was received, and it is an error.

    Attributes:
        status: HTTP status.
        code: The platform's error code, where the body has one.
        request_id: The platform's support reference, where the body has one.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        request_id: str | None = None,
        **common: Unpack[_Common],
    ) -> None:
        super().__init__(message, **common)
        self.status = status
        self.code = code
        self.request_id = request_id


class AuthenticationError(ApiError):
    """401: the credentials are wrong, missing or expired."""


class PermissionDeniedError(ApiError):
    """403: the credentials are good and may not do this."""


class NotFoundError(ApiError):
    """404: no such pool or job at this address."""


class ConflictError(ApiError):
    """409: the job is not in a state for this, or another submit is under way. Says nothing about an earlier attempt."""


class PayloadTooLargeError(ApiError):
    """413: the chunk is larger than the platform takes."""


class RateLimitedError(ApiError):
    """429: over the submit quota or another limit.

    Attributes:
        retry_after_seconds: The wait that the answer asks for, or None where it does not say.
    """

    disposition: Disposition = "transient"

    def __init__(
        self,
        message: str,
        *,
        status: int = 429,
        retry_after_seconds: float | None = None,
        **response_fields: Unpack[_ResponseFields],
    ) -> None:
        super().__init__(message, status=status, **response_fields)
        self.retry_after_seconds = retry_after_seconds


class InvalidRequestError(ApiError):
    """Any other 4xx: the platform refuses the request as it is."""


class ServerError(ApiError):
    """5xx: for a call that is not idempotent the outcome is unknown."""

    disposition: Disposition = "transient"


class UnexpectedResponseError(ApiError):
    """The answer does not parse or breaks the contract."""

    disposition: Disposition = "outcome_unknown"


class JobError(PushEngineError):
    """Something is wrong with a push job.

    Attributes:
        job_id: The job.
    """

    def __init__(self, message: str, *, job_id: str, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.job_id = job_id


class JobFailedError(JobError):
    """The platform finished the job with ERROR or CANCELED.

    Attributes:
        status: ERROR or CANCELED.
        server_message: The job's logs, joined.
    """

    def __init__(
        self, message: str, *, job_id: str, status: str = "ERROR", server_message: str = "", **common: Unpack[_Common]
    ) -> None:
        super().__init__(message, job_id=job_id, **common)
        self.status = status
        self.server_message = server_message


class JobDeadlineError(JobError):
    """The job was submitted and is still not final at the deadline."""

    disposition: Disposition = "transient"


class JobVanishedError(JobError):
    """An unsubmitted job is gone: the platform deletes them in time. Nothing became visible; the push starts again in a fresh job."""


class SubmitOutcomeUnknownError(JobError):
    """The job vanished after a submit left: nobody can say whether it ran. A person decides."""

    disposition: Disposition = "outcome_unknown"


class VerificationError(JobError):
    """The job's chunk list is not what was sent; the job was deleted instead of submitted."""


class JobTaintedError(JobError):
    """What an unsubmitted job holds cannot be told, or is more than what was sent: it must never be submitted."""


class JournalError(PushEngineError):
    """The journal cannot be opened, read or written.

    Attributes:
        path: The journal's file.
    """

    def __init__(self, message: str, *, path: str, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.path = path


class JournalLockedError(JournalError):
    """Another process works on the same push."""

    disposition: Disposition = "transient"


class JournalCorruptError(JournalError):
    """The journal fails its integrity check; it is kept as it is."""


class JournalVersionError(JournalError):
    """A newer version wrote the journal."""


class LedgerError(PushEngineError):
    """The quota ledger cannot be opened, read or written.

    Attributes:
        path: The ledger's file.
    """

    def __init__(self, message: str, *, path: str, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.path = path


class RetriesExhaustedError(PushEngineError):
    """The last allowed attempt failed too; the last error is `__cause__`.

    Attributes:
        attempts: How many were made.
        elapsed_seconds: From the first attempt to giving up.
    """

    disposition: Disposition = "transient"

    def __init__(self, message: str, *, attempts: int, elapsed_seconds: float, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.attempts = attempts
        self.elapsed_seconds = elapsed_seconds


class EngineClosedError(PushEngineError):
    """The engine was used after `aclose()`."""


def real_cause(error: BaseException) -> BaseException:
    """The error that explains the others: what is inside groups, with endings and cancellations last; of equals the first.

    A refusal of the credentials comes before all else, then a bug, then what went wrong on purpose.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min((real_cause(inner) for inner in error.exceptions), key=_rank)


def iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error, its `__cause__`, that one's cause, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def is_access_refused(error: BaseException) -> bool:
    """Whether the platform refused the credentials, or what they may do, at the bottom of this error."""
    return any(isinstance(link, AuthenticationError | PermissionDeniedError) for link in iter_causes(error))


def _rank(error: BaseException) -> int:
    if not isinstance(
        error, Exception
    ):  # CancelledError, KeyboardInterrupt: by name it would cost the import of asyncio
        return 4
    if isinstance(error, EngineClosedError):
        return 3
    if is_access_refused(error):
        return 0
    return 2 if isinstance(error, PushEngineError) else 1
