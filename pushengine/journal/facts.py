"""The records of the journal: pushes, and facts about them. Each kind of fact has its own class.

On disk a fact is its kind plus a JSON object of its attributes (format 1). Compatibility with other versions:

    unknown key        ignored by `from_body`: a newer version wrote it
    unknown kind       `FactRow.fact` is None: a newer version wrote it
    missing key        the attribute's default: an older version did not write it
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pushengine.model import ChunkType

NOBODY_RESUMED = "nobody resumed it in time"
"""The reason of a `PushSuperseded` if the push was abandoned and no other push replaced it. Journals hold this text: do not reword it."""
Fingerprint = list[list[Any]]
"""The fingerprint of the source files; `sources.fingerprint` describes its layout."""


@dataclasses.dataclass(frozen=True, slots=True)
class PushRow:
    """A push in the journal's list of pushes; times are in seconds UTC."""

    push_id: str
    identity: str
    team: str
    pool_id: str
    target: str
    source: str
    created_at: float
    updated_at: float
    state: str


class Fact:
    """One record of the journal about one push: something that is about to happen, or that has happened.

    Attributes:
        kind: Name of this kind of fact on disk.
    """

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    __slots__ = ()

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object that is stored on disk."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Return the fact that this or another version wrote as `body`.

        Raises:
            TypeError: `body` is not an object, or it lacks a key that every version has written.
        """
        if not isinstance(body, Mapping):
            raise TypeError(f"{cls.kind} is not an object")
        known = cls.__dataclass_fields__
        if body.keys() <= known.keys():
            return cls(**body)
        return cls(**{key: value for key, value in body.items() if key in known})


def _without_empty(body: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value or name not in names}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushPlanned(Fact):
    """The push is planned; nothing has been sent yet. `claim` is what it means to a load, `request` what a load id stands for."""

    kind = "push_planned"
    target: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pool_id: str = ""
    source: Sequence[str] | None = None
    label: str = ""
    format: str | None = None
    column_types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    source_bytes: int | None = None
    fingerprint: Fingerprint | None = None
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schema: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    known: Mapping[str, Any] | None = None
    changes: Sequence[str] = ()
    notes: Sequence[str] = ()
    is_empty: bool = False
    dialect: Mapping[str, Any] | None = None
    claim: Mapping[str, Any] | None = None
    load_id: str = ""
    request: Mapping[str, Any] | None = None

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object; without what earlier versions did not write, where there is nothing to say."""
        body = _without_empty(Fact.to_body(self), "options", "known", "changes", "notes", "is_empty", "dialect")
        return _without_empty(body, "claim", "load_id", "request")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Fact):
    """A process starts to work on the push; `fingerprint` is set if the files match none of the fingerprints recorded so far."""

    kind = "session_started"
    pid: int
    resumed: bool
    fingerprint: Fingerprint | None = None

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object; without `fingerprint` in the push's first session, because the plan already has it."""
        body = Fact.to_body(self)
        if not self.resumed:
            del body["fingerprint"]
        return body


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobIntended(Fact):
    """A request to create a job is about to be sent."""

    kind = "job_intended"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobCreated(Fact):
    """The platform created the job."""

    kind = "job_created"
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSending(Fact):
    """An upload of a chunk is about to be sent."""

    kind = "chunk_sending"
    job_id: str
    chunk_id: str
    rows: int
    first_row: int
    end_row: int
    payload_bytes: int
    digests: Mapping[str, str]
    type: ChunkType = "UPSERT"
    rejected: int = 0

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object; without `rejected` unless rows of the chunk were rejected."""
        return _without_empty(Fact.to_body(self), "rejected")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkAcked(Fact):
    """The platform confirmed the upload of the chunk."""

    kind = "chunk_acked"
    job_id: str
    chunk_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRefused(Fact):
    """The upload is known to have had no effect: the platform does not have the chunk."""

    kind = "chunk_refused"
    job_id: str
    chunk_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkUnknown(Fact):
    """The outcome of an upload is unknown: the platform may have the chunk."""

    kind = "chunk_unknown"
    job_id: str
    chunk_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReconciled(Fact):
    """The job's chunk list showed whether the platform has the chunk. `is_final`: an upload that was missing can no longer arrive."""

    kind = "chunk_settled"  # its name in format 1, which existing journals contain: it must not change
    job_id: str
    chunk_id: str
    is_present: bool
    how: str = ""
    is_final: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RowsRejected(Fact):
    """A pass over the source rejected this number of rows, which `file` lists; the job holds all others. None is listed if `rows` is 0."""

    kind = "rows_rejected"
    job_id: str
    rows: int
    file: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceAcked(Fact):
    """All rows of the source are acknowledged; `sha256` holds one digest per file, or is None if they were not computed."""

    kind = "source_acked"
    job_id: str
    rows: int
    fingerprint: Fingerprint | None = None
    sha256: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSealed(Fact):
    """The job's chunk list matches what was sent."""

    kind = "job_sealed"
    job_id: str
    chunks: int
    verified: Literal["checksum", "count"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitIntended(Fact):
    """A submit is about to be sent; it spends quota."""

    kind = "submit_intended"
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRefused(Fact):
    """The submit is known to have had no effect."""

    kind = "submit_refused"
    job_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitUnknown(Fact):
    """The outcome of the submit is unknown: it may have had an effect."""

    kind = "submit_unknown"
    job_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAccepted(Fact):
    """The platform accepted the submit."""

    kind = "submit_accepted"
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobPolled(Fact):
    """A poll returned a status that differs from the previous one."""

    kind = "job_polled"
    job_id: str
    status: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSettled(Fact):
    """A poll returned the job's final status."""

    kind = "job_settled"
    job_id: str
    status: str
    logs: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobDiscarded(Fact):
    """The job was deleted, or its deletion failed with `error`."""

    kind = "job_discarded"
    job_id: str
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushRestarted(Fact):
    """The job was abandoned and a fresh one follows.

    `schema` is the new schema, or None if it stays the same, and `changes` how it differs from the table `known`. `drops_duplicates` says
    that the fresh job holds only the last of the rows with equal keys, `decodes` that files are no longer passed through.
    """

    kind = "push_restarted"
    reason: str = ""
    schema: Mapping[str, Any] | None = None
    known: Mapping[str, Any] | None = None
    changes: Sequence[str] = ()
    notes: Sequence[str] = ()
    drops_duplicates: bool = False
    decodes: bool = False

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object; without what stays the same."""
        return _without_empty(Fact.to_body(self), "schema", "known", "changes", "notes", "drops_duplicates", "decodes")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFinished(Fact):
    """The push reached DONE. `is_remembered` says that its columns are in the journal's memory of tables; older versions have none."""

    kind = "push_finished"
    receipt: Mapping[str, Any]
    is_remembered: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFailed(Fact):
    """The push ended without reaching DONE and cannot be resumed."""

    kind = "push_failed"
    error: str = ""
    error_type: str = ""
    receipt: Mapping[str, Any]
    is_remembered: bool = False

    def to_body(self) -> dict[str, Any]:
        """Return the JSON object; without `is_remembered` unless the memory of tables changed."""
        return _without_empty(Fact.to_body(self), "is_remembered")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushResolved(Fact):
    """A person said whether the push, whose outcome was unknown, was loaded."""

    kind = "push_resolved"
    is_loaded: bool
    receipt: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushInterrupted(Fact):
    """The process stopped working on the push, which can be resumed."""

    kind = "push_interrupted"
    error: str = ""
    receipt: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushSuperseded(Fact):
    """The push was closed because another push replaced it, or because it was not resumed in time."""

    kind = "push_superseded"
    reason: str = ""


ChunkFact = ChunkSending | ChunkAcked | ChunkRefused | ChunkUnknown | ChunkReconciled
SubmitFact = SubmitIntended | SubmitRefused | SubmitUnknown | SubmitAccepted
KINDS: Mapping[str, type[Fact]] = {
    one.kind: one
    for one in (
        PushPlanned,
        SessionStarted,
        JobIntended,
        JobCreated,
        ChunkSending,
        ChunkAcked,
        ChunkRefused,
        ChunkUnknown,
        ChunkReconciled,
        RowsRejected,
        SourceAcked,
        JobSealed,
        SubmitIntended,
        SubmitRefused,
        SubmitUnknown,
        SubmitAccepted,
        JobPolled,
        JobSettled,
        JobDiscarded,
        PushRestarted,
        PushFinished,
        PushFailed,
        PushResolved,
        PushInterrupted,
        PushSuperseded,
    )
}


@dataclasses.dataclass(frozen=True)
class FactRow:
    """A fact as the journal stores it; `at` is in seconds UTC."""

    push_id: str
    at: float
    kind: str
    body: Mapping[str, Any]

    @classmethod
    def of(cls, push_id: str, at: float, fact: Fact) -> Self:
        """Return the row for a fact."""
        return cls(push_id, at, fact.kind, fact.to_body())

    @functools.cached_property
    def fact(self) -> Fact | None:
        """The decoded fact, or None if its kind is unknown because a newer version wrote it.

        Raises:
            TypeError: The body is not an object, or it lacks a key that every version has written.
        """
        kind = KINDS.get(self.kind)
        return None if kind is None else kind.from_body(self.body)
