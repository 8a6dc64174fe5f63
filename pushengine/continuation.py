"""Whether an earlier push of the same command goes on, and whether the source still holds what it sent.

A push whose submit may have left is always ended from its own journal: nothing here is asked about that. Only then, to know whether the
command is done, and before, while chunks remain to be sent, does the source matter.
"""

from __future__ import annotations

import dataclasses
from typing import Literal

from pushengine.config import EngineSettings
from pushengine.encoding import JOURNAL_DIGEST
from pushengine.filehash import FileHasher
from pushengine.history import PushState
from pushengine.intake import AsyncIntake, Intake
from pushengine.pieces import FilePiece, piece_digest
from pushengine.recipe import Fingerprint, compare_files, load_schema, recipe_change, sizes_and_probes
from pushengine.types import FileSystem, Workers

SOURCE_CHANGED = "the source has changed since"


@dataclasses.dataclass(frozen=True, slots=True)
class Continuation:
    """How an earlier push that was not submitted goes on.

    Attributes:
        way: `resume` it; `recheck` what it sent, on the way; or `supersede` it by a new push.
        reason: Why it is superseded.
    """

    way: Literal["resume", "recheck", "supersede"]
    reason: str = ""


async def find_continuation(
    state: PushState,
    intake: Intake | AsyncIntake,
    fingerprint: Fingerprint | None,
    *,
    settings: EngineSettings,
    filesystem: FileSystem,
    workers: Workers,
) -> Continuation:
    """How a push that was not submitted goes on.

    Args:
        state: Where it stands.
        intake: Its source, opened with the settings that it was planned with.
        fingerprint: Of the files now.
        settings: Of this engine.
        filesystem: Where files lie.
        workers: Threads that read and hash.

    Raises:
        SourceReadError: A file is gone or unreadable.
    """
    if state.schema is None:
        return Continuation("supersede", "it was never planned to its end")
    if (
        state.job is not None and state.job.is_complete
    ):  # no chunk remains: settings and versions decide nothing any more
        is_same = await holds_what_was_sent(state, intake, fingerprint, filesystem=filesystem, workers=workers)
        return Continuation("resume") if is_same else Continuation("supersede", SOURCE_CHANGED)
    change = compare_files(state.fingerprint, fingerprint)
    if change == "changed":
        return Continuation("supersede", SOURCE_CHANGED)
    pieces = await intake.pieces(load_schema(state.schema))
    recipe = state.planned.get("recipe", {})
    reason = recipe_change(recipe, settings, is_text=intake.is_text, is_as_it_is=isinstance(pieces, list))
    if reason is not None:
        return Continuation("supersede", reason)
    return Continuation("recheck" if change == "touched" else "resume")


async def holds_what_was_sent(
    state: PushState,
    intake: Intake | AsyncIntake,
    fingerprint: Fingerprint | None,
    *,
    filesystem: FileSystem,
    workers: Workers,
) -> bool:
    """Whether the source has the content that a push sent, whole: by size and digest, whatever the files are called now.

    Args: As `find_continuation`.

    Raises:
        SourceReadError: A file is gone or unreadable.
    """
    before = state.fingerprint
    if compare_files(before, fingerprint) == "same":
        return True
    if (
        before is None
        or fingerprint is None
        or sorted(sizes_and_probes(before)) != sorted(sizes_and_probes(fingerprint))
    ):
        return False
    if state.sha256 is not None:
        hasher = FileHasher(intake.files, filesystem=filesystem, workers=workers)
        hasher.finish()
        return sorted(state.sha256) == sorted(await hasher.run())
    pieces = None if state.schema is None else await intake.pieces(load_schema(state.schema))
    if isinstance(pieces, list):
        return await _are_sent(pieces, state, filesystem, workers)
    # A journal of an earlier version has no digest of such a source. Its size and its probes are as they were.
    return True


async def _are_sent(pieces: list[FilePiece], state: PushState, filesystem: FileSystem, workers: Workers) -> bool:
    """Files that were sent as they are: their chunks are their bytes, and the journal has a digest of each."""
    job = state.job
    sent = {} if job is None else {chunk.chunk_id: chunk.digests[JOURNAL_DIGEST] for chunk in job.acked}
    if len(pieces) != len(sent):
        return False
    for piece in pieces:
        if await workers.encode(piece_digest, piece, JOURNAL_DIGEST, filesystem) != sent.get(piece.chunk_id):
            return False
    return True
