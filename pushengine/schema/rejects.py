"""Finds the rows of a block that cannot be loaded and may be left out, if the user allows it (`max_rejects`).

A row is rejected if it has more or fewer fields than the header, a value that the type or length of its column does not hold, or no value in
a key column. Values are never changed. Nothing else may be rejected: text in another encoding, a quote that is never closed, or a batch with
other columns says that the whole source is read wrongly.

A value for which another schema would have room is no reason to reject its row, as long as that schema may still be inferred: `conform`
raises `ValueMisfitError` for it, and the push starts again with a wider type (`push/session.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa

from pushengine.errors import SchemaError, SourceError, SourceReadError, ValueMisfitError
from pushengine.interfaces import ReadableRows, SourceBatch, SourceBlock
from pushengine.schema.base import is_string
from pushengine.schema.columns import Column, TableSchema
from pushengine.schema.conform import T, checked, conform, conversion_of
from pushengine.schema.conversions import decoded
from pushengine.schema.misfits import (
    all_misfits,
    column_named,
    length_error,
    misfit_class,
    misfit_message,
    nulls_at,
    reason_of,
    too_long_at,
)

RejectKind = Literal["CAST", "LENGTH", "NULL KEY", "MISSING COLUMNS", "TOO MANY COLUMNS"]


MAX_PROBLEMS = 10
"""Most problems of one row that are listed. Each has the whole row beside it, and a shifted row of a wide table has hundreds."""


class Problem(NamedTuple):
    """Why a row is rejected; a row may have several problems.

    Attributes:
        number: Number of the row within its block, from 0.
        column: Column of the source; empty if the whole row is malformed.
        kind: Kind of problem, as DuckDB calls it where it has a name for it.
        message: The problem as an error would report it, without position.
    """

    number: int
    column: str
    kind: RejectKind
    message: str


def sifted(
    block: SourceBlock, schema: TableSchema, check: Callable[[SourceBatch], T], *, widens: bool
) -> tuple[T, ReadableRows | None, Sequence[Problem]]:
    """Call `check` with the rows of a block; if it fails, call it again without the rows that may be rejected.

    Args:
        block: The rows.
        schema: The schema of the push.
        check: Converts the rows to that schema, and more.
        widens: Whether a wider schema may still be inferred, for values that only this one does not hold.

    Returns:
        The result of `check`; the rows of the block if some are rejected, and None otherwise; and why they are.

    Raises:
        SourceError: The block has a problem that is no reason to reject single rows.
    """
    try:
        return check(block.decode()), None, ()
    except (SchemaError, SourceReadError):
        readable = block.readable()
    batch = readable.batch
    problems = [*ragged_problems(readable), *find_problems(schema, batch, widens=widens)]
    if not problems:
        return checked(block, check), None, ()
    numbers = np.arange(batch.rows) if batch.numbers is None else np.asarray(batch.numbers)
    is_kept = np.isin(numbers, [problem.number for problem in problems], invert=True)
    kept = batch.only(np.flatnonzero(is_kept).tolist())
    try:
        result = check(kept)
    except SourceError:
        check(block.located(kept))
        raise
    return result, readable, sorted(problems, key=lambda problem: problem.number)


def ragged_problems(readable: ReadableRows) -> list[Problem]:
    """Return a problem for each row of a block with more or fewer fields than the header."""
    expected = readable.fields
    return [
        Problem(
            number,
            "",
            "MISSING COLUMNS" if fields < expected else "TOO MANY COLUMNS",
            f"expected {expected} fields, found {fields}",
        )
        for number, fields in readable.ragged.items()
    ]


def find_problems(schema: TableSchema, source: SourceBatch, *, widens: bool) -> list[Problem]:
    """Return the reasons to reject rows of a batch, column by column; of each row only the first `MAX_PROBLEMS`.

    Args:
        schema: The schema of the push.
        source: The rows.
        widens: Whether a wider schema may still be inferred, for values that only this one does not hold.

    Raises:
        SchemaError: A column is missing, has another type, or holds text that is not UTF-8.
    """
    problems: list[Problem] = []
    counts = [0] * source.rows
    for column in schema.columns if source.rows else ():
        if column.is_missing:
            continue
        for index, problem in _problems_of_column(source, column, is_key=column.name in schema.keys, widens=widens):
            counts[index] += 1
            if counts[index] <= MAX_PROBLEMS:
                problems.append(problem)
    return problems


def _problems_of_column(
    source: SourceBatch, column: Column, *, is_key: bool, widens: bool
) -> Iterator[tuple[int, Problem]]:
    name = column.source_name
    array = decoded(column_named(source, name))
    for index in nulls_at(array) if is_key else ():
        yield index, Problem(source.number(index), name, "NULL KEY", "no value in a key column")
    conversion = conversion_of(source, array, column)
    found = all_misfits(conversion, array, column.arrow_type)
    messages: dict[Any, str | None] = {}
    for index in found:
        value = array.slice(index, 1)
        key = value[0].as_py() if is_string(array.type) else index  # equal texts have equal messages
        if key not in messages:
            may_fit = widens and misfit_class(value, column) is ValueMisfitError
            reason = _reason(conversion.read, value, column.arrow_type)
            messages[key] = None if may_fit else misfit_message(value, column, reason)
        message = messages[key]
        if message is not None:
            yield index, Problem(source.number(index), name, "CAST", message)
    if column.length is None:
        return
    kept = np.delete(np.arange(len(array)), found)
    try:
        strings = conversion.read(array.take(pa.array(kept)) if found else array, column.arrow_type)
    except ValueError:  # the text is not UTF-8
        conform(TableSchema((column,), ignored=frozenset(source.batch.schema.names)), source)
        raise
    for index in too_long_at(strings, column.length):
        error = length_error(source, strings, index, column)
        if not (widens and isinstance(error, ValueMisfitError)):
            at = int(kept[index])
            yield at, Problem(source.number(at), name, "LENGTH", error.message)


def _reason(read: Callable[[pa.Array, pa.DataType], pa.Array], value: pa.Array, to: pa.DataType) -> str:
    try:
        read(value, to)
    except ValueError as exc:
        return reason_of(exc)
    raise AssertionError("the value fits by itself")
