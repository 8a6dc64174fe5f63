"""What the journal holds: pushes, and facts about them, one class for each kind of fact.

On disk a fact is its kind and a JSON object of its attributes (format 1). A newer version may have written more: `from_body` ignores keys that
it does not know, and a kind that it does not know is no fact to it (`FactRow.fact` is None). What an older version did not write has a default.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal, Self

from pushengine.model import ChunkType, ColumnType

NOBODY_RESUMED = "nobody resumed it in time"
"""The reason of a `PushSuperseded` without another push that took its place."""
Fingerprint = list[list[Any]]
"""See `sources.fingerprint`."""


@dataclasses.dataclass(frozen=True, slots=True)
class PushRow:
    """A push as the journal lists it; times in seconds UTC."""

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
    """One thing that was intended or learned of a push.

    Attributes:
        kind: Its name on disk.
    """

    kind: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]
    __slots__ = ()

    def to_body(self) -> dict[str, Any]:
        """The JSON object on disk."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """The fact that was written as `body`, by this version or another one.

        Raises:
            TypeError: It is no object, or a key is missing that every version has written.
        """
        if not isinstance(body, Mapping):
            raise TypeError(f"{cls.kind} is no object")
        known = cls.__dataclass_fields__
        if body.keys() <= known.keys():
            return cls(**body)
        return cls(**{key: value for key, value in body.items() if key in known})


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushPlanned(Fact):
    """The push begins; nothing was sent."""

    kind = "push_planned"
    target: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    pool_id: str = ""
    source: Sequence[str] | None = None
    label: str = ""
    format: str | None = None
    column_types: Mapping[str, ColumnType] = dataclasses.field(default_factory=dict)
    source_bytes: int | None = None
    fingerprint: Fingerprint | None = None
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    schema: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SessionStarted(Fact):
    """A process works on the push from here on; `fingerprint` is that of its files, if they look touched."""

    kind = "session_started"
    pid: int
    resumed: bool
    fingerprint: Fingerprint | None = None

    def to_body(self) -> dict[str, Any]:
        """The process that began the push says nothing of its files here: they are in the plan."""
        body = Fact.to_body(self)
        if not self.resumed:
            del body["fingerprint"]
        return body


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobIntended(Fact):
    """A create is about to leave."""

    kind = "job_intended"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobCreated(Fact):
    """The platform has made the job."""

    kind = "job_created"
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkSending(Fact):
    """An upload is about to leave."""

    kind = "chunk_sending"
    job_id: str
    chunk_id: str
    rows: int
    first_row: int
    end_row: int
    payload_bytes: int
    digests: Mapping[str, str]
    type: ChunkType = "UPSERT"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkAcked(Fact):
    """The platform answered that it has the chunk."""

    kind = "chunk_acked"
    job_id: str
    chunk_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRefused(Fact):
    """An answer proved that the platform does not have the chunk."""

    kind = "chunk_refused"
    job_id: str
    chunk_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkUnknown(Fact):
    """There was no answer: the platform may have the chunk."""

    kind = "chunk_unknown"
    job_id: str
    chunk_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ChunkReconciled(Fact):
    """The job's chunk list told whether the platform has the chunk."""

    kind = "chunk_settled"
    job_id: str
    chunk_id: str
    is_present: bool
    how: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SourceAcked(Fact):
    """All rows are acknowledged; `sha256` has a digest for each file, or is None."""

    kind = "source_acked"
    job_id: str
    rows: int
    fingerprint: Fingerprint | None = None
    sha256: Sequence[str] | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSealed(Fact):
    """The job's chunk list equals what was sent."""

    kind = "job_sealed"
    job_id: str
    chunks: int
    verified: Literal["checksum", "count"]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitIntended(Fact):
    """A submit is about to leave; it spends quota."""

    kind = "submit_intended"
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitRefused(Fact):
    """The submit certainly had no effect."""

    kind = "submit_refused"
    job_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitUnknown(Fact):
    """Whether the submit had an effect is not known."""

    kind = "submit_unknown"
    job_id: str
    error: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class SubmitAccepted(Fact):
    """The platform took the submit."""

    kind = "submit_accepted"
    job_id: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobPolled(Fact):
    """A poll saw another status."""

    kind = "job_polled"
    job_id: str
    status: str


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobSettled(Fact):
    """The final status was seen."""

    kind = "job_settled"
    job_id: str
    status: str
    logs: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JobDiscarded(Fact):
    """The job was deleted, or could not be (`error`)."""

    kind = "job_discarded"
    job_id: str
    error: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushRestarted(Fact):
    """A fresh job follows; `schema` is the new one, if it is another."""

    kind = "push_restarted"
    reason: str = ""
    schema: Mapping[str, Any] | None = None

    def to_body(self) -> dict[str, Any]:
        """Without a schema that stays as it was."""
        body = Fact.to_body(self)
        if self.schema is None:
            del body["schema"]
        return body


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFinished(Fact):
    """The push is DONE."""

    kind = "push_finished"
    receipt: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushFailed(Fact):
    """The push ended for good without DONE."""

    kind = "push_failed"
    error: str = ""
    error_type: str = ""
    receipt: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushInterrupted(Fact):
    """The process stopped; the push can go on."""

    kind = "push_interrupted"
    error: str = ""
    receipt: Mapping[str, Any]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class PushSuperseded(Fact):
    """Another push took its place, or nobody went on with it."""

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
        PushInterrupted,
        PushSuperseded,
    )
}


@dataclasses.dataclass(frozen=True)
class FactRow:
    """A fact as the journal stores it; `at` in seconds UTC."""

    push_id: str
    at: float
    kind: str
    body: Mapping[str, Any]

    @classmethod
    def of(cls, push_id: str, at: float, fact: Fact) -> Self:
        """The row for a fact."""
        return cls(push_id, at, fact.kind, fact.to_body())

    @functools.cached_property
    def fact(self) -> Fact | None:
        """What it says; None for a kind that a newer version has written.

        Raises:
            TypeError: Something is missing in it that every version has written.
        """
        kind = KINDS.get(self.kind)
        return None if kind is None else kind.from_body(self.body)
