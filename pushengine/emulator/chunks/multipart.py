r"""The one multipart form this API takes: a single part named `file`.

    [preamble CRLF] --boundary CRLF
    Content-Disposition: form-data; name="file"; filename="..." CRLF [other headers CRLF] CRLF
    <bytes of the file> CRLF --boundary-- [epilogue]

Read incrementally: what is held back is never more than one delimiter or the headers of the part.
"""

import re
from email.message import Message
from email.parser import BytesHeaderParser
from enum import Enum, auto

MAX_HEADER_BYTES = 16 * 1024
PART_NAME = "file"

_DELIMITER_END = re.compile(rb"(--|[ \t]*\r\n)")
_CLOSE = b"--"


class MultipartError(ValueError):
    """The body is not the form that is asked for."""


class _State(Enum):
    PREAMBLE = auto()
    OPENING = auto()
    HEADERS = auto()
    FILE = auto()
    CLOSING = auto()
    EPILOGUE = auto()


def boundary_of(content_type: str) -> bytes:
    """The boundary that a Content-Type header declares.

    Raises:
        MultipartError: The type is not multipart/form-data, or has no boundary.
    """
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_param("boundary")
    if message.get_content_type() != "multipart/form-data":
        raise MultipartError("The request is not multipart/form-data.")
    if not isinstance(boundary, str) or not boundary:
        raise MultipartError("The multipart boundary is missing from the Content-Type header.")
    return boundary.encode("latin-1", "replace")


class SingleFileForm:
    """Takes the body piece by piece and gives back the bytes of the file."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._buffer = b"\r\n"  # so that a delimiter in the first line looks like any other
        self._state = _State.PREAMBLE
        self._to_skip = 2  # the line end that is put before the file, see _read_headers

    def feed(self, data: bytes) -> bytes:
        """The bytes of the file that are certain after this piece of the body.

        Raises:
            MultipartError: The form is malformed, or holds anything but one part named `file`.
        """
        self._buffer += data
        if self._state is _State.PREAMBLE:
            self._skip_preamble()
        if self._state is _State.OPENING:
            self._read_delimiter_end(is_first=True)
        if self._state is _State.HEADERS:
            self._read_headers()
        content = self._read_file() if self._state is _State.FILE else b""
        if self._state is _State.CLOSING:
            self._read_delimiter_end(is_first=False)
        if self._state is _State.EPILOGUE:
            self._buffer = b""
        return content

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            MultipartError: It ended before the closing delimiter.
        """
        if self._state is not _State.EPILOGUE:
            raise MultipartError("The multipart body is incomplete.")

    def _skip_preamble(self) -> None:
        index = self._buffer.find(self._delimiter)
        if index >= 0:
            self._buffer = self._buffer[index + len(self._delimiter) :]
            self._state = _State.OPENING
        elif len(self._buffer) > MAX_HEADER_BYTES:
            raise MultipartError("The multipart boundary does not occur in the body.")

    def _read_delimiter_end(self, *, is_first: bool) -> None:
        match = _DELIMITER_END.match(self._buffer)
        if match is None:
            if len(self._buffer) > MAX_HEADER_BYTES or self._buffer.strip(b" \t\r-"):
                raise MultipartError("The multipart delimiter is malformed.")
            return
        is_last = match[0] == _CLOSE
        if is_first and is_last:
            raise MultipartError(f"The form has no part; one named '{PART_NAME}' is needed.")
        if not is_first and not is_last:
            raise MultipartError(f"The form has more than one part; exactly one named '{PART_NAME}' is needed.")
        # The line end stays: it begins the blank line when the part has no headers at all.
        self._buffer = self._buffer[match.end() :] if is_last else self._buffer[match.end() - 2 :]
        self._state = _State.EPILOGUE if is_last else _State.HEADERS

    def _read_headers(self) -> None:
        head, blank_line, rest = self._buffer.partition(b"\r\n\r\n")
        if not blank_line:
            if len(self._buffer) > MAX_HEADER_BYTES:
                raise MultipartError("The headers of the part are too long.")
            return
        headers = BytesHeaderParser().parsebytes(head.removeprefix(b"\r\n"))
        name = headers.get_param("name", header="content-disposition")
        if name != PART_NAME:
            raise MultipartError(f"The part is not named '{PART_NAME}'.")
        self._buffer = b"\r\n" + rest  # an empty file has its delimiter right here
        self._state = _State.FILE

    def _read_file(self) -> bytes:
        index = self._buffer.find(self._delimiter)
        if index >= 0:
            content, self._buffer = self._buffer[:index], self._buffer[index + len(self._delimiter) :]
            self._state = _State.CLOSING
        else:
            keep = len(self._delimiter) - 1
            if len(self._buffer) <= keep:
                return b""
            content, self._buffer = self._buffer[:-keep], self._buffer[-keep:]
        skipped = min(self._to_skip, len(content))
        self._to_skip -= skipped
        return content[skipped:] if skipped else content
