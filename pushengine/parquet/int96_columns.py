"""A footer that declares INT96 columns as 12 bytes, so that Arrow returns the stored bytes instead of its own reading of them.

INT96 and FIXED_LEN_BYTE_ARRAY(12) are stored alike in all encodings that a writer may use for INT96: plain and dictionary. Only the schema is
changed: Arrow reads columns as it says, and footers with many row groups are copied unread.
"""

from __future__ import annotations

from collections.abc import Iterator

from pushengine.parquet.footer import PHYSICAL_TYPES
from pushengine.parquet.thrift_compact import (
    I32,
    STRUCT,
    Fields,
    elements_of,
    field_span,
    number_of,
    read_struct,
    write_integer,
    write_struct,
    write_structs,
)
from pushengine.schema.times.int96 import NBYTES

_SCHEMA = 2
"""Field schema of the footer."""
_INT96 = PHYSICAL_TYPES.index("INT96")
_BYTES = (I32, write_integer(PHYSICAL_TYPES.index("FIXED_LEN_BYTE_ARRAY")))
_MEANINGS = (6, 10)
"""Fields converted_type and logicalType of a schema element."""


def as_bytes(footer: bytes) -> bytes:
    """Return the footer with all INT96 columns that are not nested declared as 12 bytes.

    Raises:
        FooterError: The footer is not understood.
    """
    kind, start, end = field_span(footer, _SCHEMA)
    elements = _elements({_SCHEMA: (kind, footer[start:end])})
    return footer[:start] + write_structs(list(elements)) + footer[end:]


def _elements(footer: Fields) -> Iterator[bytes]:
    """Yield the elements of the schema, which is a tree in depth-first order."""
    inside = 0  # number of elements still to come of the nested columns at hand
    for index, raw in enumerate(elements_of(footer, _SCHEMA, STRUCT)):
        element, _ = read_struct(raw)
        children = number_of(element, 5) or 0
        is_column = index > 0 and not inside and not children
        if index:
            inside = max(inside - 1, 0) + children
        if is_column and number_of(element, 1) == _INT96:
            changed = {number: value for number, value in element.items() if number not in _MEANINGS}
            changed |= {1: _BYTES, 2: (I32, write_integer(NBYTES))}
            yield write_struct(dict(sorted(changed.items())))
        else:
            yield raw
