"""The journal of one push while it runs: each fact durable first, then part of the state."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from pushengine.journal.facts import Fact, PushRow
from pushengine.journal.state import PushHistory, PushState
from pushengine.journal.store import Journal, JournalFile
from pushengine.runtime.aio import finish, told_when_slow
from pushengine.runtime.clock import Clock

_WAITED_OUT = frozenset({"chunk_settled", "submit_accepted"})
"""Kinds of facts that something is measured from."""


class PushLog:
    """Records facts and holds the state that they add up to.

    Args:
        journal: Where facts go.
        clock: When they happen.
        push_id: The push.
        facts: What is known already, for a resumed push.
        team: Whose checksum algorithm is remembered.
        on_slow: Called when the journal does not take a fact for a moment, as while another process has it locked.
    """

    def __init__(
        self,
        journal: Journal,
        *,
        clock: Clock,
        push_id: str,
        team: str,
        facts: Iterable[Fact] = (),
        on_slow: Callable[[], None] = lambda: None,
    ) -> None:
        self.push_id = push_id
        self._journal = journal
        self._clock = clock
        self._team = team
        self._on_slow = on_slow
        self._history = PushHistory(facts)
        self._opened_at = clock.monotonic()
        self._recorded_at: dict[float, float] = {}

    @property
    def state(self) -> PushState:
        """What is known of the push now."""
        return self._history.state

    def seconds_since(self, at: float) -> float:
        """Time since a fact of this push, in seconds; for a fact of an earlier process the time since this one took over.

        Wall clocks are set, and two processes may see two of them: what has to be waited out is measured where nothing is set.
        """
        return self._clock.monotonic() - self._recorded_at.get(at, self._opened_at)

    async def begin(self, row: PushRow, **facts: Mapping[str, Any]) -> None:
        """List the push, together with its first facts (kind = what it carries): all of them or nothing is durable.

        Raises:
            JournalError: It could not be recorded.
        """
        await self._write(row.created_at, facts, also=lambda file: file.begin_push(row))

    async def record(self, kind: str, *, final_state: str | None = None, **body: Any) -> None:
        """Make one fact durable, then apply it.

        Args:
            kind: See `journal/state.py`.
            final_state: Also set the push's state in the list of pushes.
            body: What the fact carries; JSON types.

        Raises:
            JournalError: It could not be recorded; what it announces must not happen.
        """
        at = self._clock.now()

        def set_state(file: JournalFile) -> None:
            if final_state is not None:
                file.set_state(self.push_id, final_state, at)

        await self._write(at, {kind: body}, also=set_state)

    async def _write(
        self, at: float, facts: Mapping[str, Mapping[str, Any]], *, also: Callable[[JournalFile], None]
    ) -> None:
        def write(file: JournalFile) -> None:
            for kind, body in facts.items():
                file.append(Fact(self.push_id, at, kind, body))
            also(file)

        async def write_and_apply() -> None:
            with told_when_slow(self._on_slow):
                await self._journal.do(write)
            if not _WAITED_OUT.isdisjoint(facts):
                self._recorded_at[at] = self._clock.monotonic()
            for kind, body in facts.items():
                self._history.apply(kind, at, body)

        # Even if the caller is cancelled meanwhile: what happened has happened, and the clean-up must know of it.
        await finish(write_and_apply())

    async def known_checksum(self) -> str | None:
        """The platform's checksum algorithm as learned for this team."""
        with told_when_slow(self._on_slow):
            return await self._journal.read(lambda file: file.checksum_of(self._team))

    async def learn_checksum(self, algorithm: str) -> None:
        """Remember it."""
        with told_when_slow(self._on_slow):
            await self._journal.do(lambda file: file.learn_checksum(self._team, algorithm))
