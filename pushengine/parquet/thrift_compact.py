"""Thrift's compact protocol, one struct at a time: a field is its kind and its raw bytes, whatever is inside.

So a struct is written again without loss, unknown fields included. Input may be damaged or hostile: nesting, numbers and sizes are
bounded by the bytes that are there before anything is made of them, and everything wrong is a `FooterError`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

_MAX_DEPTH = 24
_MAX_SHIFT = 63

TRUE, FALSE, I8, I16, I32, I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT, _UUID = range(1, 14)
_INTEGERS = (I16, I32, I64)
_FIXED = {I8: 1, _DOUBLE: 8, _UUID: 16}
_LONG_LIST = 15


class FooterError(ValueError):
    """Not the footer of a Parquet file, or one of a kind that is not understood."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A number and where the next byte is."""
    value = data[at]
    at += 1
    if value < 0x80:  # noqa: PLR2004 - the bit that says "more"
        return value, at
    value &= 0x7F
    shift = 7
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004
            return value, at
        shift += 7
        if shift > _MAX_SHIFT:
            raise FooterError("a number of more than 64 bits")


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)


def _written(value: int) -> bytes:
    """A varint."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_integer(value: int) -> bytes:
    """An integer, of any kind but `I8`."""
    return _written(value << 1 if value >= 0 else (-value << 1) - 1)


def _bounded(data: bytes, at: int, size: int) -> int:
    if size > len(data) - at:
        raise FooterError("it ends in the middle of a value")
    return at + size


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Kind and number of the elements, and where the first one begins. Every element has a byte at least."""
    head = data[at]
    at += 1
    size = head >> 4
    if size == _LONG_LIST:
        size, at = _varint(data, at)
    _bounded(data, at, size)
    return head & 0x0F, size, at


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where the value ends."""
    if kind in _INTEGERS:
        return _varint(data, at)[1]
    if kind == BINARY:
        size, at = _varint(data, at)
        return _bounded(data, at, size)
    if kind in _FIXED:
        return _bounded(data, at, _FIXED[kind])
    if depth > _MAX_DEPTH:
        raise FooterError(f"nested more than {_MAX_DEPTH} deep")
    if kind == STRUCT:
        return _skip_struct(data, at, depth)
    if kind in (LIST, _SET):
        element, size, at = _list_head(data, at)
        for _ in range(size):
            at = _skip_element(data, at, element, depth)
        return at
    if kind == _MAP:
        size, at = _varint(data, at)
        _bounded(data, at, size)
        kinds = data[at] if size else 0
        at += 1 if size else 0
        for _ in range(size):
            at = _skip_element(data, at, kinds >> 4, depth)
            at = _skip_element(data, at, kinds & 0x0F, depth)
        return at
    raise FooterError(f"a value of unknown kind {kind}")


def _skip_element(data: bytes, at: int, kind: int, depth: int) -> int:
    """As `_skip`, but for the elements of lists, where a boolean is a byte."""
    if kind == STRUCT and depth < _MAX_DEPTH:
        return _skip_struct(data, at, depth + 1)
    return _bounded(data, at, 1) if kind in (TRUE, FALSE) else _skip(data, at, kind, depth + 1)


def _skip_struct(data: bytes, at: int, depth: int) -> int:
    while head := data[at]:
        at += 1
        if not head >> 4:
            _, at = _varint(data, at)
        kind = head & 0x0F
        if kind in _INTEGERS and data[at] < 0x80:  # noqa: PLR2004 - most of what footers hold, told without a call
            at += 1
        elif kind == BINARY and data[at] < 0x80:  # noqa: PLR2004
            at = _bounded(data, at + 1, data[at])
        elif kind not in (TRUE, FALSE):
            at = _skip(data, at, kind, depth + 1)
    return at + 1


Fields = dict[int, tuple[int, bytes]]
"""Field number -> kind and raw bytes, in the order of the wire. A boolean is all kind."""


def read_struct(data: bytes, at: int = 0, *, taken: dict[int, list[bytes]] | None = None) -> tuple[Fields, int]:
    """One struct, one level deep, and where it ends.

    Args:
        data: It begins in there.
        at: Where.
        taken: Lists of structs with these field numbers are put here, raw element by element, and are empty in the struct: long ones are
            gone through once and held once.

    Raises:
        FooterError: It is none.
    """
    fields: Fields = {}
    number = 0
    try:
        while head := data[at]:
            at += 1
            kind = head & 0x0F
            if head >> 4:
                number += head >> 4
            else:
                raw, at = _varint(data, at)
                number = _signed(raw)
            if number in fields:
                raise FooterError(f"field {number} is there twice")
            if taken is not None and number in taken:
                at = _take(data, at, kind, taken[number])
                fields[number] = (LIST, write_structs([]))
                continue
            end = at if kind in (TRUE, FALSE) else _skip(data, at, kind, 0)
            fields[number] = (kind, data[at:end])
            at = end
    except IndexError:
        raise FooterError("it ends in the middle of a value") from None
    return fields, at + 1


def _take(data: bytes, at: int, kind: int, elements: list[bytes]) -> int:
    if kind != LIST:
        raise FooterError("a field is no list")
    element, size, at = _list_head(data, at)
    if size and element != STRUCT:
        raise FooterError("a list of something else")
    for _ in range(size):
        end = _skip_struct(data, at, 1)
        elements.append(data[at:end])
        at = end
    return at


def write_struct(fields: Mapping[int, tuple[int, bytes]]) -> bytes:
    """What `read_struct` reads."""
    out = bytearray()
    before = 0
    for number, (kind, raw) in fields.items():
        delta = number - before
        if 0 < delta <= 15:  # noqa: PLR2004 - four bits
            out.append(delta << 4 | kind)
        else:
            out.append(kind)
            out += write_integer(number)
        out += raw
        before = number
    out.append(0)
    return bytes(out)


def number_of(fields: Fields, number: int) -> int | None:
    """An integer field; None if it is not there."""
    kind, raw = fields.get(number, (0, b""))
    if not kind:
        return None
    if kind not in _INTEGERS:
        raise FooterError(f"field {number} is no integer")
    return _signed(_varint(raw, 0)[0])


def needed_number(fields: Fields, number: int) -> int:
    """An integer field."""
    value = number_of(fields, number)
    if value is None:
        raise FooterError(f"field {number} is missing")
    return value


def text_of(fields: Fields, number: int) -> str:
    """A text field."""
    kind, raw = fields.get(number, (0, b""))
    if kind != BINARY:
        raise FooterError(f"field {number} is no text")
    try:
        return raw[_varint(raw, 0)[1] :].decode()
    except UnicodeDecodeError:
        raise FooterError("a name is not UTF-8") from None


def struct_of(fields: Fields, number: int) -> Fields | None:
    """A struct field; None if it is not there."""
    kind, raw = fields.get(number, (0, b""))
    return read_struct(raw)[0] if kind == STRUCT else None


def elements_of(fields: Fields, number: int, kind: int) -> Iterator[bytes]:
    """The elements of a list, raw; none if there is no list."""
    found, raw = fields.get(number, (0, b""))
    if not found:
        return
    if found != LIST:
        raise FooterError(f"field {number} is no list")
    element, size, at = _list_head(raw, 0)
    if size and element != kind:
        raise FooterError(f"field {number} is a list of something else")
    for _ in range(size):
        end = _skip_element(raw, at, kind, 0)
        yield raw[at:end]
        at = end


def write_structs(elements: Sequence[bytes]) -> bytes:
    """A list of structs that are written already."""
    size = len(elements)
    head = bytes([size << 4 | STRUCT]) if size < _LONG_LIST else bytes([0xF0 | STRUCT]) + _written(size)
    return head + b"".join(elements)


def integers_of(fields: Fields, number: int) -> Iterator[int]:
    """The numbers of a list; none if there is no list."""
    return (_signed(_varint(raw, 0)[0]) for raw in elements_of(fields, number, I32))
