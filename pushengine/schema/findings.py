"""What the values of one column show together: whether they are evidence enough for a type, and which settings they seem to need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from pushengine.errors import SchemaError
from pushengine.interfaces import SourceBatch
from pushengine.model import ColumnType
from pushengine.schema.base import MICROS
from pushengine.schema.candidates import Candidate, ColumnRules
from pushengine.schema.conversions import given_conversions
from pushengine.schema.misfits import position_of, shown
from pushengine.schema.text.suggestions import Suggestions, readings_kept_out
from pushengine.schema.text.values import TEXT_FLOAT, TEXT_INTEGER, TOO_FINE
from pushengine.text import flag

if TYPE_CHECKING:
    import pyarrow as pa


class Findings:
    """What is found in one column, besides the types that fit.

    Args:
        name: Name of the column in the target.
        source_name: Its name in the source.
        rules: What is known of the column before its values are seen.
        is_text: Whether the source is text, whose types are inferred.

    Attributes:
        too_fine: The error for the first time finer than a microsecond; None if there is none.
    """

    def __init__(self, name: str, source_name: str, rules: ColumnRules, *, is_text: bool) -> None:
        self._name = name
        self._source_name = source_name
        self._rules = rules
        self._facts: dict[str, frozenset[str]] = {}
        self._suggestions: Suggestions | None = None
        self._suggests_for: ColumnType = "STRING"
        self.too_fine: SchemaError | None = None
        if is_text and rules.requested is None:
            self._suggest()

    def _suggest(self) -> None:
        known = self._rules.known
        if known is None or known.type != "STRING":
            self._suggestions = Suggestions(is_key=self._rules.is_key)
        if known is None or self._rules.is_fixed or self._rules.is_key or known.type not in ("STRING", "INTEGER"):
            return
        unused = [one for one in given_conversions(self._rules.formats) if one.type not in ("INTEGER", known.type)]
        if unused:
            self._suggestions = Suggestions(readings_kept_out(unused, self._name, known.type))
            self._suggests_for = known.type

    def observe(
        self,
        source: SourceBatch,
        array: pa.Array,
        before: Sequence[Candidate],
        left: Sequence[Candidate],
        *,
        is_first: bool,
        located: Callable[[SourceBatch], SourceBatch],
    ) -> None:
        """Learn from values.

        Args:
            source: The rows.
            array: Values of the column, not all NULL.
            before: The candidates that fit all values before these.
            left: Those that fit these, too.
            is_first: Whether there were no values before these.
            located: Returns the rows with their exact position.
        """
        facts_before = {one.conversion.name: self._facts.get(one.conversion.name, frozenset()) for one in before}
        if left[0].conversion is TEXT_INTEGER:  # these values have no points, and need not be searched for them
            self._facts[TEXT_FLOAT.name] = facts_before.get(TEXT_FLOAT.name, frozenset()) | {"whole"}
        for one in () if left[0].conversion is TEXT_INTEGER else left:
            if one.conversion.evidence is not None:
                facts = self._facts.get(one.conversion.name, frozenset())
                self._facts[one.conversion.name] = one.conversion.evidence.added(facts, array)
        if left[0].conversion.name in TOO_FINE and self.too_fine is None:
            index = TOO_FINE[left[0].conversion.name].first_misfit(array, MICROS)
            self.too_fine = self._too_fine(located(source), index, array)
        elif self._suggestions is not None and left[0].type == self._suggests_for:
            self._suggestions.observe(array, facts_before, is_first=is_first)

    def _too_fine(self, source: SourceBatch, index: int, array: pa.Array) -> SchemaError:
        cut = f"{flag('subsecond', 'cut')} cuts the digits after the sixth"
        keep = f"{flag('column', f'{self._name}=STRING')} keeps them"
        return SchemaError(
            f"{shown(array[index])} does not fit {self._name} DATETIME: it is finer than a microsecond",
            source=source.source,
            position=position_of(source, index, self._source_name),
            hint=cut if self._rules.is_fixed else f"{cut}; {keep}",
        )

    def is_evident(self, candidate: Candidate) -> bool:
        """Return whether a candidate that fits all values may be chosen."""
        evidence, known = candidate.conversion.evidence, self._rules.known
        if (
            evidence is None
            or self._rules.requested is not None
            or (known is not None and known.type == candidate.type)
        ):
            return True
        return evidence.suffices(self._facts.get(candidate.conversion.name, frozenset()))

    @property
    def is_ambiguous(self) -> bool:
        """Whether points may stand between thousands: 1.000 next to 950."""
        return self._facts.get(TEXT_FLOAT.name) == frozenset(["grouped", "whole"])

    def reason(self) -> str:
        """Return why a column of numbers is text."""
        return "decimal points or thousands" if self.is_ambiguous else "no value with a decimal sign"

    def note(self, candidates: Sequence[Candidate], chosen: ColumnType) -> str:
        """Return what the user should know about how the column is read; empty if there is nothing.

        Args:
            candidates: The candidates that fit all values.
            chosen: The type that is chosen.
        """
        if self.is_ambiguous and any(one.conversion is TEXT_FLOAT for one in candidates):
            return (
                f"{self._name} may have points between thousands, or decimal points (1.000 next to 950), and stays {chosen}:"
                f" {flag('decimal', ',')} {flag('thousands', '.')} or {flag('decimal', '.')}"
            )
        return "" if self._suggestions is None or chosen != self._suggests_for else self._suggestions.note(self._name)
