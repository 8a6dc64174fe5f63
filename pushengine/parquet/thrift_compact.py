"""Thrift's compact protocol, one struct at a time: a field is its kind and its raw bytes, which are not interpreted.

A struct can therefore be written again without loss, including unknown fields. Input may be damaged or hostile: nesting and numbers are
limited, sizes are checked against the bytes present before anything is built from them, and every defect raises `FooterError`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping, Sequence

_MAX_DEPTH = 24
_MAX_SHIFT = 63

TRUE, FALSE, I8, I16, I32, I64, _DOUBLE, BINARY, LIST, _SET, _MAP, STRUCT, _UUID = range(1, 14)
_INTEGERS = (I16, I32, I64)
_FIXED = {I8: 1, _DOUBLE: 8, _UUID: 16}
_LONG_LIST = 15


def offsets() -> array[int]:
    """Return an empty array for the offsets of a list; see `read_struct`."""
    return array("Q")


class FooterError(ValueError):
    """Bytes that are not the footer of a Parquet file, or a footer that is not understood."""


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at `at` and the offset after it."""
    value = data[at]
    at += 1
    if value < 0x80:  # noqa: PLR2004 - the continuation bit
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


def _encode_varint(value: int) -> bytes:
    """Encode a number as a varint."""
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def write_integer(value: int) -> bytes:
    """Encode an integer of any kind but `I8`."""
    return _encode_varint(value << 1 if value >= 0 else (-value << 1) - 1)


def _bounded(data: bytes, at: int, size: int) -> int:
    if size > len(data) - at:
        raise FooterError("it ends in the middle of a value")
    return at + size


def _list_head(data: bytes, at: int) -> tuple[int, int, int]:
    """Return the kind and the number of the elements, and the offset of the first one."""
    head = data[at]
    at += 1
    size = head >> 4
    if size == _LONG_LIST:
        size, at = _varint(data, at)
    _bounded(data, at, size)  # every element has at least one byte
    return head & 0x0F, size, at


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Return the offset after the value."""
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
    """Return the offset after an element of a list, set or map, where a boolean takes one byte."""
    if kind == STRUCT and depth < _MAX_DEPTH:
        return _skip_struct(data, at, depth + 1)
    return _bounded(data, at, 1) if kind in (TRUE, FALSE) else _skip(data, at, kind, depth + 1)


def _skip_struct(data: bytes, at: int, depth: int) -> int:
    while head := data[at]:
        at += 1
        if not head >> 4:
            _, at = _varint(data, at)
        kind = head & 0x0F
        if kind in _INTEGERS and data[at] < 0x80:  # noqa: PLR2004 - most fields of footers, without a call
            at += 1
        elif kind == BINARY and data[at] < 0x80:  # noqa: PLR2004
            at = _bounded(data, at + 1, data[at])
        elif kind not in (TRUE, FALSE):
            at = _skip(data, at, kind, depth + 1)
    return at + 1


Fields = dict[int, tuple[int, bytes]]
"""Field number -> kind and raw bytes, in wire order. The kind of a boolean is its value; it has no bytes."""


def read_struct(
    data: bytes, at: int = 0, *, extracted: dict[int, array[int]] | None = None, last: int | None = None
) -> tuple[Fields, int]:
    """Parse one struct, one level deep, and return its fields and the offset after it.

    Args:
        data: Bytes that contain the struct.
        at: Offset at which the struct begins.
        extracted: Field number of a list of structs -> array to which the offsets are appended at which its elements begin, and the one after
            the last. The returned struct has an empty list instead, so that long lists are scanned once and held once.
        last: Number of the last field that is needed. What follows it is not read, and the returned offset means nothing.

    Raises:
        FooterError: The bytes are not a valid struct.
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
                raise FooterError(f"field {number} appears twice")
            if extracted is not None and number in extracted:
                at = _extract_list(data, at, kind, extracted[number])
                fields[number] = (LIST, write_structs([]))
                continue
            end = at if kind in (TRUE, FALSE) else _skip(data, at, kind, 0)
            fields[number] = (kind, data[at:end])
            at = end
            if number == last:
                break
    except IndexError:
        raise FooterError("it ends in the middle of a value") from None
    return fields, at + 1


def field_start(data: bytes, wanted: int, at: int = 0) -> tuple[int, int]:
    """Return the kind of a field of the struct at `at`, and where its value begins. It and what follows it are not read.

    Raises:
        FooterError: The struct has no such field, or is invalid up to it.
    """
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
            if number == wanted:
                return kind, at
            at = at if kind in (TRUE, FALSE) else _skip(data, at, kind, 0)
    except IndexError:
        raise FooterError("it ends in the middle of a value") from None
    raise FooterError(f"field {wanted} is missing")


def field_span(data: bytes, wanted: int) -> tuple[int, int, int]:
    """Return the kind of a field of a struct, and where its value begins and ends. What follows it is not read.

    Raises:
        FooterError: The struct has no such field, or is invalid up to its end.
    """
    kind, at = field_start(data, wanted)
    try:
        return kind, at, at if kind in (TRUE, FALSE) else _skip(data, at, kind, 0)
    except IndexError:
        raise FooterError("it ends in the middle of a value") from None


def _extract_list(data: bytes, at: int, kind: int, found: array[int]) -> int:
    if kind != LIST:
        raise FooterError("a field is not a list")
    element, size, at = _list_head(data, at)
    if size and element != STRUCT:
        raise FooterError("a list of another kind")
    for _ in range(size):
        found.append(at)
        at = _skip_struct(data, at, 1)
    found.append(at)
    return at


def write_struct(fields: Mapping[int, tuple[int, bytes]]) -> bytes:
    """Encode a struct; the inverse of `read_struct`."""
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
    """Return an integer field, or None if it is absent."""
    kind, raw = fields.get(number, (0, b""))
    if not kind:
        return None
    if kind not in _INTEGERS:
        raise FooterError(f"field {number} is not an integer")
    return _signed(_varint(raw, 0)[0])


def required_number(fields: Fields, number: int) -> int:
    """Return an integer field, which must be present."""
    value = number_of(fields, number)
    if value is None:
        raise FooterError(f"field {number} is missing")
    return value


def bytes_of(fields: Fields, number: int) -> bytes:
    """Return the content of a text or binary field; empty if it is absent."""
    kind, raw = fields.get(number, (0, b""))
    return raw[_varint(raw, 0)[1] :] if kind == BINARY else b""


def text_of(fields: Fields, number: int) -> str:
    """Return a text field, which must be present."""
    if fields.get(number, (0, b""))[0] != BINARY:
        raise FooterError(f"field {number} is not text")
    try:
        return bytes_of(fields, number).decode()
    except UnicodeDecodeError:
        raise FooterError("a name is not UTF-8") from None


def struct_of(fields: Fields, number: int) -> Fields | None:
    """Return a struct field, or None if there is no struct with this number."""
    kind, raw = fields.get(number, (0, b""))
    return read_struct(raw)[0] if kind == STRUCT else None


def elements_of(fields: Fields, number: int, kind: int) -> Iterator[bytes]:
    """Yield the raw elements of a list field; nothing if it is absent."""
    found, raw = fields.get(number, (0, b""))
    if not found:
        return
    if found != LIST:
        raise FooterError(f"field {number} is not a list")
    element, size, at = _list_head(raw, 0)
    if size and element != kind:
        raise FooterError(f"field {number} is a list of another kind")
    for _ in range(size):
        end = _skip_element(raw, at, kind, 0)
        yield raw[at:end]
        at = end


def write_structs(elements: Sequence[bytes]) -> bytes:
    """Encode a list of structs that are encoded already."""
    size = len(elements)
    head = bytes([size << 4 | STRUCT]) if size < _LONG_LIST else bytes([0xF0 | STRUCT]) + _encode_varint(size)
    return head + b"".join(elements)


def integers_of(fields: Fields, number: int) -> Iterator[int]:
    """Yield the integers of a list field; nothing if it is absent."""
    return (_signed(_varint(raw, 0)[0]) for raw in elements_of(fields, number, I32))
