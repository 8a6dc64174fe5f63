"""One generation of one load in a run: what is intended, and what became of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Protocol

from pushengine.config.loads.resolved import LoadSettings
from pushengine.journal.loads import RunLoad
from pushengine.loads.forecast import Forecast
from pushengine.loads.states import load_name
from pushengine.model import Claim, FileRef, QuotaStatus, Receipt


@dataclasses.dataclass(slots=True, eq=False)
class Item:
    """One generation of one load in a run, or a load that has nothing to push.

    Attributes:
        row: What is intended, and what became of it, as the journal has it.
        settings: Effective settings of the load; None if its rule found no table.
        files: The files to push, as they were listed; empty if nothing is to be pushed.
        receipt: The receipt of the push, once it has ended.
    """

    row: RunLoad
    settings: LoadSettings | None = None
    files: tuple[FileRef, ...] = ()
    receipt: Receipt | None = None

    @property
    def name(self) -> str:
        """The name of the load for people: `sap.VBAP`, or that of the rule."""
        return load_name(self.row)

    @property
    def nbytes(self) -> int:
        """Size of the files, bytes."""
        return sum(file.size for file in self.files)

    def claim(self, run_id: str) -> Claim:
        """Return what the push means to the load."""
        row = self.row
        return Claim(
            load=row.load,
            table=row.table,
            generation=row.generation,
            run_id=run_id,
            expected_rows=row.expected_rows,
        )

    def update(self, **changes: Any) -> RunLoad:
        """Change the row and return it."""
        self.row = dataclasses.replace(self.row, **changes)
        return self.row


def load_id_of(claim: Claim) -> str:
    """Return the load id of a push that a run makes: of run, load and generation."""
    return f"{claim.run_id}/{claim.load}.{claim.table}/{claim.generation}"


class RunListener(Protocol):
    """Is told about a run while it goes on."""

    def planned(self, items: Sequence[Item], expected: Forecast | None) -> None:
        """The run is planned; the items that are over already, such as missing ones, are among them."""
        ...

    def quota(self, status: QuotaStatus) -> None:
        """What is left of the submit quota of a team that the run loads into, before it begins."""
        ...

    def started(self, item: Item) -> None:
        """A push begins."""
        ...

    def ended(self, item: Item) -> None:
        """An item has reached a final state."""
        ...

    def note(self, text: str) -> None:
        """Show a line of text."""
        ...
