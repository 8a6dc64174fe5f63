"""A footer that declares INT96 columns as 12 bytes, so that Arrow returns the stored bytes instead of its own reading of them.

INT96 and FIXED_LEN_BYTE_ARRAY(12) are stored alike in all encodings that a writer may use for INT96: plain and dictionary.
"""

from __future__ import annotations

from collections.abc import Iterator

from pushengine.parquet.footer import PHYSICAL_TYPES
from pushengine.parquet.thrift_compact import (
    BINARY,
    I32,
    LIST,
    STRUCT,
    Fields,
    elements_of,
    number_of,
    read_struct,
    struct_of,
    write_integer,
    write_struct,
    write_structs,
)
from pushengine.schema.int96 import NBYTES

_INT96 = PHYSICAL_TYPES.index("INT96")
_BYTES = (I32, write_integer(PHYSICAL_TYPES.index("FIXED_LEN_BYTE_ARRAY")))
_MEANINGS = (6, 10)
"""Fields converted_type and logicalType of a schema element."""
_STATISTICS = (12,)
"""Field statistics of a column of a row group."""


def as_bytes(footer: bytes) -> bytes:
    """Return the footer with all INT96 columns that are not nested declared as 12 bytes.

    Raises:
        FooterError: The footer is not understood.
    """
    groups: list[bytes] = []
    fields, _ = read_struct(footer, extracted={4: groups})
    fields[2] = (LIST, write_structs(list(_elements(fields))))
    fields[4] = (LIST, write_structs([_group(raw) for raw in groups]))
    return write_struct(dict(sorted(fields.items())))


def _elements(footer: Fields) -> Iterator[bytes]:
    """Yield the elements of the schema, which is a tree in depth-first order."""
    inside = 0  # number of elements still to come of the nested columns at hand
    for index, raw in enumerate(elements_of(footer, 2, STRUCT)):
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


def _group(raw: bytes) -> bytes:
    columns: list[bytes] = []
    fields, _ = read_struct(raw, extracted={1: columns})
    fields[1] = (LIST, write_structs([_column(column) for column in columns]))
    return write_struct(fields)


def _column(raw: bytes) -> bytes:
    fields, _ = read_struct(raw)
    meta = struct_of(fields, 3)
    if meta is None or number_of(meta, 1) != _INT96 or len(list(elements_of(meta, 3, BINARY))) != 1:
        return raw
    changed = {number: value for number, value in meta.items() if number not in _STATISTICS}
    changed[1] = _BYTES
    fields[3] = (STRUCT, write_struct(changed))
    return write_struct(fields)
