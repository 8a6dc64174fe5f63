"""Every error that pushengine raises on purpose.

```
PushEngineError                    base class; .hint says what the user can do next
├── ConfigError                    bad file, key, value or argument; .key names the setting
├── SourceError                    .source, .position
│   ├── SourceReadError            unreadable or malformed input (file, line or row group)
│   │   └── SourceChangedError     the files changed during a push or before it was resumed
│   └── SchemaError                unsupported type, or a batch that does not match
│       ├── ValueMisfitError       a value that the inferred schema cannot hold but a wider one could
│       └── TableChangedError      another push changed the table since this one was planned
├── TransportError                 no response was received
│   ├── ConnectionFailedError      nothing was sent: always safe to retry; .phase = name | connect | proxy | tls
│   │   ├── UntrustedServerError   its certificate is not trusted, is for another host or has expired, or the port does not speak TLS
│   │   └── ProxyRefusedError      the proxy refuses the tunnel; .status
│   ├── RequestTimeoutError        .phase = connect | write | read | pool
│   └── OutcomeUnknownError        sent, no response, and the call is not idempotent
├── ApiError                       an error response was received; .status .code .request_id
│   ├── AuthenticationError        401, or 407 from a proxy
│   ├── PermissionDeniedError      403
│   ├── NotFoundError              404
│   ├── ConflictError              409
│   ├── PayloadTooLargeError       413
│   ├── RateLimitedError           429, .retry_after_seconds
│   ├── InvalidRequestError        any other 4xx
│   ├── ServerError                5xx
│   └── UnexpectedResponseError    the response does not parse or breaks the contract
│       └── ForeignResponseError   it is not from the platform: a redirect, a web page, another server, no token endpoint
├── JobError                       .job_id
│   ├── JobFailedError             the platform finished the job with an error; .status .server_message
│   ├── JobDeadlineError           still not final at the deadline
│   ├── JobVanishedError           an unsubmitted job is gone (the platform eventually deletes such jobs)
│   ├── SubmitOutcomeUnknownError  the job vanished after a submit: whether it ran cannot be determined
│   ├── VerificationError          the chunk list does not match what was sent; the job was not submitted
│   └── JobTaintedError            the contents of the job cannot be trusted; it is deleted and the push restarts in a fresh job
├── JournalError                   the journal cannot be used; .path
│   ├── JournalLockedError         another process is working on the same push
│   ├── JournalCorruptError        the database fails its integrity check
│   └── JournalVersionError        written by a newer version
├── LedgerError                    the quota ledger cannot be used; .path
├── RetriesExhaustedError          .attempts .elapsed_seconds; the last error is __cause__
└── EngineClosedError              used after aclose(), or while the engine drains
```

A test compares this tree with the classes. Branch on the class and attributes, never on the text of a message. A message states what
failed, on what (ids, not payloads) and after how many attempts; the hint says what to do. Neither contains a secret, or any row data
beyond the one value that a source error is about.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, Self, TypedDict, TypeVar, Unpack

from pushengine.text import shown_text

if TYPE_CHECKING:
    from pushengine.model import Receipt

Disposition = Literal["transient", "terminal", "outcome_unknown"]
_Error = TypeVar("_Error", bound="PushEngineError")
TimeoutPhase = Literal["connect", "write", "read", "pool"]
ConnectionPhase = Literal["name", "connect", "proxy", "tls"]


class _Common(TypedDict, total=False):
    """Keyword arguments that every error accepts besides its own attributes; see `PushEngineError`."""

    hint: str
    disposition: Disposition | None


class _ResponseFields(_Common, total=False):
    """Keyword arguments that every `ApiError` accepts besides its status."""

    code: str | None
    request_id: str | None


class PushEngineError(Exception):
    """Base class of all errors of this package. An error is complete when it is created; `replace` returns a changed copy.

    Attributes:
        hint: What the user can do next; may be empty.
        disposition: Whether another attempt can help. Each class has a default, which an instance may override. Meant for the code that
            retries and reconciles, above all `pushengine.pipeline.retry`.
        is_unsent: Whether the request of the call was certainly not sent, so that it has had no effect.
        receipt: Set if the error ended a push: what had been done until then.
    """

    disposition: Disposition = "terminal"
    is_unsent: bool = False
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
        """Return a copy with another message, hint or disposition, and the same attributes, receipt, notes, cause and traceback.

        Raise the copy in place of the original: `raise error.replace(hint=...) from error.__cause__`.
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
        """Pickle with all attributes, because schedulers transfer errors from worker processes."""
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[_Error], args: tuple[Any, ...], state: dict[str, Any]) -> _Error:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


class ConfigError(PushEngineError):
    """A bad config file, key, value or argument.

    Attributes:
        key: The setting at fault, as the user wrote it, or None.
        problems: If several things are wrong with a config file, each of them in a line, which the message has in one; otherwise empty.
    """

    def __init__(
        self, message: str, *, key: str | None = None, problems: tuple[str, ...] = (), **common: Unpack[_Common]
    ) -> None:
        super().__init__(message, **common)
        self.key = key
        self.problems = problems


class SourceError(PushEngineError):
    """A problem with the input of a push.

    Attributes:
        source: The file or object at fault.
        position: Position within the source ("line 7", "row 12, column AMOUNT"), or None.
    """

    def __init__(
        self, message: str, *, source: str = "", position: str | None = None, **common: Unpack[_Common]
    ) -> None:
        super().__init__(message, **common)
        self.source = source
        self.position = position

    def __str__(self) -> str:
        where = ", ".join(part for part in (shown_text(self.source), self.position) if part)
        text = super().__str__()
        return f"{where}: {text}" if where else text


class SourceReadError(SourceError):
    """Input that cannot be read or parsed."""


class SourceChangedError(SourceReadError):
    """The source files changed during a push, or before it was resumed. None of their rows were submitted."""


def unreadable(source: str, exc: OSError) -> SourceReadError:
    """Build the error for a source that the operating system could not open or read."""
    return SourceReadError(exc.strerror or str(exc) or type(exc).__name__, source=source)


def no_rows(source: str) -> SourceReadError:
    """Build the error for a source that is empty."""
    return SourceReadError(
        "no rows",
        source=source,
        hint="an empty extract must not empty a table: check the extract, or allow it with --allow-empty",
    )


def damaged(kind: str, what: str, *, source: str, position: str | None = None) -> SourceReadError:
    """Build the error for a file that violates its format. `kind` is the format, `what` the message of the parsing library."""
    return SourceReadError(
        f"not a readable {kind} file: {what}", source=source, position=position, hint="check that the file is complete"
    )


class SchemaError(SourceError):
    """A type that the target cannot hold, or a value or batch that does not match the inferred schema."""


class ValueMisfitError(SchemaError):
    """A value that does not fit the schema inferred from a sample. The push restarts with a schema inferred from the whole source."""


class TableChangedError(SchemaError):
    """Another push changed the table since this one was planned. The push restarts with a schema for the table as it is now."""

    disposition: Disposition = "transient"


class TransportError(PushEngineError):
    """No response was received."""

    disposition: Disposition = "transient"


class ConnectionFailedError(TransportError):
    """The connection failed before the request, or any of its body, was sent, so another attempt is always safe.

    Attributes:
        phase: What failed: the resolution of the host name, the connection, the tunnel through a proxy, or the TLS handshake.
    """

    is_unsent = True

    def __init__(self, message: str, *, phase: ConnectionPhase = "connect", **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.phase = phase


class UntrustedServerError(ConnectionFailedError):
    """The server does not prove to be the team's: its certificate is not trusted, is for another host or has expired, or it speaks no TLS.

    Only a correction helps: of the address, of `ca_file`, or of the server. A server that has responded before is not refused for
    speaking no TLS: it may be starting.
    """

    disposition: Disposition = "terminal"


class ProxyRefusedError(ConnectionFailedError):
    """The proxy refuses the tunnel to the platform: it wants other credentials (407), or does not allow the host.

    Attributes:
        status: HTTP status of the proxy's response.
    """

    disposition: Disposition = "terminal"

    def __init__(self, message: str, *, status: int, **common: Unpack[_Common]) -> None:
        super().__init__(message, phase="proxy", **common)
        self.status = status


class RequestTimeoutError(TransportError):
    """An idempotent call took too long.

    Attributes:
        phase: What took too long: connect, write, read or pool.
    """

    def __init__(self, message: str, *, phase: TimeoutPhase, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.phase = phase


class OutcomeUnknownError(TransportError):
    """A non-idempotent request got no response, so it may have taken effect. Reconcile before sending it again."""

    disposition: Disposition = "outcome_unknown"


class ApiError(PushEngineError):
    """The response is an error.

    Attributes:
        status: HTTP status of the response.
        code: The platform's error code, or None if the response has none.
        request_id: The platform's support reference, or None if the response has none.
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
    """401, or a refusal by the token endpoint: the credentials are wrong, missing or expired, or lack the scope. 407: those for a proxy."""


class PermissionDeniedError(ApiError):
    """403: the credentials are valid but lack permission for this."""


class NotFoundError(ApiError):
    """404: no such pool or job at this address."""


class ConflictError(ApiError):
    """409: the job is in the wrong state, or another submit is in progress. It does not show whether an earlier attempt succeeded."""


class PayloadTooLargeError(ApiError):
    """413: the chunk is larger than the platform accepts."""


class RateLimitedError(ApiError):
    """429: the submit quota or another limit is exceeded.

    Attributes:
        retry_after_seconds: The wait that the response asks for, or None if it does not ask for one.
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
    """Any other 4xx: the platform rejects the request."""


class ServerError(ApiError):
    """5xx: the outcome is unknown if the call is not idempotent."""

    disposition: Disposition = "transient"


class UnexpectedResponseError(ApiError):
    """The response does not parse or breaks the contract."""

    disposition: Disposition = "outcome_unknown"


class ForeignResponseError(UnexpectedResponseError):
    """The response is not from the platform: a redirect, a web page, another server (421, 501), or no token endpoint at its address."""


class JobError(PushEngineError):
    """A problem with a push job.

    Attributes:
        job_id: Id of the job.
    """

    def __init__(self, message: str, *, job_id: str, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.job_id = job_id


class JobFailedError(JobError):
    """The platform finished the job with ERROR or CANCELED.

    Attributes:
        status: ERROR or CANCELED.
        server_message: The logs of the job, joined into one text.
    """

    def __init__(
        self, message: str, *, job_id: str, status: str = "ERROR", server_message: str = "", **common: Unpack[_Common]
    ) -> None:
        super().__init__(message, job_id=job_id, **common)
        self.status = status
        self.server_message = server_message


class JobDeadlineError(JobError):
    """The job was submitted, but has not reached a final status by the deadline."""

    disposition: Disposition = "transient"


class JobVanishedError(JobError):
    """An unsubmitted job is gone; the platform eventually deletes such jobs. No rows became visible; the push restarts in a fresh job."""


class SubmitOutcomeUnknownError(JobError):
    """The job vanished after a submit was sent, so whether it ran cannot be determined. A person must decide what to do."""

    disposition: Disposition = "outcome_unknown"


class VerificationError(JobError):
    """The job's chunk list does not match what was sent; the job was deleted instead of submitted."""


class JobTaintedError(JobError):
    """The contents of an unsubmitted job cannot be determined, or exceed what was sent. The job must never be submitted."""


class JournalError(PushEngineError):
    """The journal cannot be opened, read or written.

    Attributes:
        path: File of the journal.
    """

    def __init__(self, message: str, *, path: str, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.path = path


class JournalLockedError(JournalError):
    """Another process is working on the same push, or on another one into the same table."""

    disposition: Disposition = "transient"


class JournalCorruptError(JournalError):
    """The journal fails its integrity check. The file is kept unchanged."""


class JournalVersionError(JournalError):
    """The journal was written by a newer version of pushengine."""


class LedgerError(PushEngineError):
    """The quota ledger cannot be opened, read or written.

    Attributes:
        path: File of the ledger.
    """

    def __init__(self, message: str, *, path: str, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.path = path


class RetriesExhaustedError(PushEngineError):
    """The last allowed attempt failed too; its error is `__cause__`.

    Attributes:
        attempts: Number of attempts that were made.
        elapsed_seconds: Time from the start of the first attempt to the failure of the last.
    """

    disposition: Disposition = "transient"

    def __init__(self, message: str, *, attempts: int, elapsed_seconds: float, **common: Unpack[_Common]) -> None:
        super().__init__(message, **common)
        self.attempts = attempts
        self.elapsed_seconds = elapsed_seconds


class EngineClosedError(PushEngineError):
    """The engine was used after `aclose()`, or it drains and starts no new work."""


def real_cause(error: BaseException) -> BaseException:
    """Return the root cause of an exception group; any other error is returned unchanged.

    Order of preference: a refusal of the credentials or permissions, a bug (any exception from elsewhere), an error of this module,
    `EngineClosedError`, and last a cancellation or interrupt. Ties go to the first.
    """
    if not isinstance(error, BaseExceptionGroup):
        return error
    return min((real_cause(inner) for inner in error.exceptions), key=_rank)


def iter_causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error, then its `__cause__`, then the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__


def is_access_refused(error: BaseException) -> bool:
    """Return whether this error, or a cause of it, is a refusal of the credentials or of a permission, by the platform or by a proxy."""
    return any(
        isinstance(link, AuthenticationError | PermissionDeniedError)
        or (isinstance(link, ProxyRefusedError) and link.status in (401, 403, 407))
        for link in iter_causes(error)
    )


def is_wrong_address(error: BaseException) -> bool:
    """Return whether this error shows something else than the platform at the address, which will not pass by itself.

    A page with a status of 200 or 5xx may: a login page, or one of a proxy.
    """
    if isinstance(error, ForeignResponseError):
        return 300 <= error.status < 500 or error.status == 501  # noqa: PLR2004 - HTTP status classes, and Not Implemented
    return isinstance(error, UntrustedServerError | ProxyRefusedError)


def _rank(error: BaseException) -> int:
    # CancelledError and KeyboardInterrupt. Naming CancelledError would require an import of asyncio.
    if not isinstance(error, Exception):
        return 4
    if isinstance(error, EngineClosedError):
        return 3
    if is_access_refused(error):
        return 0
    return 2 if isinstance(error, PushEngineError) else 1
