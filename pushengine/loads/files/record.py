"""What is decided about the files of a load, while it is being decided, and how that is told."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

from pushengine.config.loads.resolved import LoadSettings
from pushengine.journal.loads import BlockRow, FileRow
from pushengine.loads.files.generations import Generation
from pushengine.loads.files.known import Examined, KnownFiles
from pushengine.model import FileRef
from pushengine.text import shell_word, shown_name, shown_some

_SHOWN = 3


@dataclasses.dataclass(frozen=True, slots=True)
class IntendedPush:
    """One push that a load intends.

    Attributes:
        generation: Key of the generation; of the newest one if the push loads several.
        files: Its files, in their order.
        expected_rows: Number of rows that it has to have, by the control files; None if that is not known.
    """

    generation: str
    files: tuple[FileRef, ...]
    expected_rows: int | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class LeftOut:
    """Files that a load does not push.

    Attributes:
        generation: Key of the generation.
        files: The files.
        reason: Why, and for refused and blocked ones what to do.
        is_incomplete: Whether it is left out because files are still to come.
    """

    generation: str
    files: tuple[FileRef, ...]
    reason: str
    is_incomplete: bool = False


@dataclasses.dataclass(slots=True)
class Unit:
    """A generation with what is known of its files.

    Attributes:
        generation: The generation.
        files: Its files; those that are left out are taken from them.
    """

    generation: Generation
    files: list[Examined]

    @property
    def key(self) -> str:
        """The key of the generation."""
        return self.generation.key

    @property
    def pending(self) -> list[Examined]:
        """The files whose content is neither loaded nor skipped."""
        return [one for one in self.files if one.is_pending]


class Record:
    """What is decided about the files of a load, while it is being decided.

    Args:
        settings: The settings of the load.
        known: What is remembered of its files.
        blocks: Its blocks.
    """

    def __init__(self, settings: LoadSettings, known: KnownFiles, blocks: Sequence[BlockRow]) -> None:
        self._settings = settings
        self._known = known
        self._blocks = blocks
        self._rows: dict[str, FileRow] = {}
        self._known_left: list[tuple[str, Examined]] = []
        self.pushes: list[IntendedPush] = []
        self.skipped: list[LeftOut] = []
        self.refused: list[LeftOut] = []
        self.blocked: list[LeftOut] = []

    def remember(self, one: Examined) -> None:
        """Note what is to be remembered of a file if it differs from what is remembered."""
        # What an append has loaded stays remembered even if the file was rewritten: its rows are in the table for ever.
        if one.row != one.before and not self._would_load_twice(one):
            self._rows[one.file.uri] = one.row

    def arrived(self, one: Examined) -> FileRow:
        """Return the row that tells when a file came. One that is refused as grown brings nothing."""
        return one.before if one.before is not None and self.is_grown(one) else one.row

    def is_grown(self, one: Examined) -> bool:
        """Whether a file is refused since its old rows would load twice."""
        return self._would_load_twice(one) and not self._settings.loads_changed_files

    def _would_load_twice(self, one: Examined) -> bool:
        return one.knowledge == "changed" and self._settings.mode == "append"

    def rows(self) -> tuple[FileRow, ...]:
        """Return what is to be remembered."""
        return tuple(self._known.with_digest(row) for row in self._rows.values())

    def skip_known(self, unit: Unit) -> None:
        """Leave out the known files of a generation."""
        for one in unit.files:
            if not one.is_pending:
                self._known_left.append((unit.key, one))

    def skip_all_known(self) -> None:
        """Leave out all known files at once: they may be those of many nights."""
        if not self._known_left:
            return
        key, last = self._known_left[-1]
        files = tuple(one.file for _, one in self._known_left)
        pushes = {one.row.push_id for _, one in self._known_left}
        how = "loaded by push" if len(pushes) == 1 else "loaded, the last one by push"
        self.skipped.insert(
            0, LeftOut(key, files, f"{how} {last.row.push_id}" if last.row.push_id else "skipped by hand")
        )

    def skip_same(self, unit: Unit, one: Examined, twin: FileRow) -> None:
        """Leave out a file whose content is that of another one."""
        if twin.push_id:
            self._rows[one.file.uri] = self._known.same_as(one, twin)
        self.skip(unit, [one], f"same content as {shown_name(twin.path)}")

    def skip(self, unit: Unit, files: Sequence[Examined], reason: str) -> None:
        """Leave out files as it should be."""
        if files:
            self.skipped.append(LeftOut(unit.key, files_of(files), reason))

    def refuse(self, unit: Unit, files: Sequence[Examined], reason: str) -> None:
        """Leave out files that a person has to decide on."""
        self.refused.append(LeftOut(unit.key, files_of(files), reason + self._skip_command(files[0].file.uri)))

    def _skip_command(self, path: str) -> str:
        return f": pushengine state skip {shell_word(self._settings.name)} {shell_word(path)}"

    def push(self, generation: str, files: Sequence[Examined], units: Iterable[Unit]) -> None:
        """Push files of these generations."""
        chosen = {one.file.uri for one in files}
        touched = [unit.generation for unit in units if any(file.uri in chosen for file in unit.generation.files)]
        whole = {file.uri for one in touched for file in one.files} == chosen  # a number of rows is for all files
        counts = [one.expected_rows for one in touched if one.expected_rows is not None]
        expected = sum(counts) if whole and len(counts) == len(touched) else None
        self.pushes.append(IntendedPush(generation, files_of(files), expected))

    def hold_back(self) -> None:
        """Block pushes that may not be made before something else is decided."""
        unknown = next((block for block in self._blocks if block.kind == "unknown"), None)
        intended = {file.uri for push in self.pushes for file in push.files}
        failed = None
        if self._settings.mode in {"upsert", "delete"}:
            failed = next((one for one in self._blocks if one.kind == "failed" and one.path not in intended), None)
        if unknown is not None:
            reason = (
                f"the outcome of push {unknown.push_id} is unknown: pushengine resolve {unknown.push_id} --loaded, or"
                " --not-loaded"
            )
        elif failed is not None:
            reason = f"{shown_name(failed.path)} failed before{self._skip_command(failed.path)}, or put it back"
        else:
            return
        self.blocked.extend(LeftOut(push.generation, push.files, reason) for push in self.pushes)
        self.pushes.clear()


def files_of(files: Iterable[Examined]) -> tuple[FileRef, ...]:
    """Return files without what is known of them."""
    return tuple(one.file for one in files)


def names_of(files: Sequence[FileRef] | Sequence[FileRow]) -> str:
    """Return the names of the first files, and how many more there are."""
    return shown_some([one.name if isinstance(one, FileRef) else one.path for one in files], _SHOWN)
