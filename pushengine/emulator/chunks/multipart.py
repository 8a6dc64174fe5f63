r"""Parsers for multipart forms: the fields of a token request, and the only form of an upload: a single part named `file`.

    [preamble CRLF] --boundary CRLF
    Content-Disposition: form-data; name="file"; filename="..." CRLF [other headers CRLF] CRLF
    <bytes of the file> CRLF --boundary-- [epilogue]

`python_multipart` parses an upload incrementally. Held in memory are at most a preamble of `MAX_HEADER_BYTES` and one
delimiter or header of the part.
"""

import logging

from python_multipart.exceptions import FormParserError, MultipartParseError
from python_multipart.multipart import Field, FormParser, MultipartParser, parse_options_header

MAX_HEADER_BYTES = 16 * 1024
PART_NAME = "file"

# The parser also logs each error that it raises. The client gets the error in the response, so the log would only clutter
# the stderr of `pushengine emulator`.
_log = logging.getLogger("pushengine.emulator.multipart")
_log.setLevel(logging.CRITICAL)


class MultipartError(ValueError):
    """A body that is not the form that the API requires."""


def boundary_of(content_type: str) -> bytes:
    """Return the boundary that a Content-Type header declares.

    Raises:
        MultipartError: The type is not multipart/form-data, or the boundary is missing.
    """
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    if kind != b"multipart/form-data":
        raise MultipartError("The request is not multipart/form-data.")
    boundary = options.get(b"boundary")
    if not boundary:
        raise MultipartError("The multipart boundary is missing from the Content-Type header.")
    return boundary


def read_fields(content_type: str, body: bytes) -> dict[str, str]:
    """Return the text fields of a whole form; files are left out.

    Raises:
        MultipartError: The form is malformed, or a field is not UTF-8.
    """
    fields: dict[str, str] = {}

    def take(field: Field) -> None:
        fields[(field.field_name or b"").decode()] = (field.value or b"").decode()

    try:
        parser = FormParser("multipart/form-data", take, lambda _file: None, boundary=boundary_of(content_type))
        parser.logger = _log
        if parser.parser is not None:
            parser.parser.logger = _log
        parser.write(body)
        parser.finalize()
    except (FormParserError, UnicodeDecodeError) as exc:
        raise MultipartError(f"The multipart form is malformed: {exc}.") from exc
    return fields


class SingleFileForm:
    """An incremental parser that takes the body piece by piece and returns the bytes of the file.

    Raises:
        MultipartError: The boundary is too long.
    """

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._preamble: bytes | None = b"\r\n"  # makes a delimiter on the first line match like any other
        self._header_name = b""
        self._header_value = b""
        self._disposition = b""
        self._content: list[bytes] = []
        self._has_part = False
        self._is_ended = False
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": self._take_header_name,
                    "on_header_value": self._take_header_value,
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._check_name,
                    "on_part_data": self._take_content,
                    "on_end": self._end,
                },
                max_header_size=MAX_HEADER_BYTES,
            )
        except FormParserError as exc:
            raise MultipartError(f"The multipart boundary is invalid: {exc}.") from exc
        self._parser.logger = _log

    def feed(self, data: bytes) -> bytes:
        """Parse the next piece of the body, and return the bytes of the file that it completes.

        Raises:
            MultipartError: The form is malformed, or contains anything but one part named `file`.
        """
        if self._preamble is not None:
            data = self._skip_preamble(self._preamble + data)
        try:
            self._parser.write(data)
        except MultipartParseError as exc:
            raise MultipartError(f"The multipart form is malformed: {exc}.") from exc
        content, self._content = self._content, []
        return b"".join(content)

    def finish(self) -> None:
        """Check, at the end of the body, that the form is complete.

        Raises:
            MultipartError: The body ended before the closing delimiter.
        """
        if not self._is_ended:
            raise MultipartError("The multipart body is incomplete.")

    def _skip_preamble(self, data: bytes) -> bytes:
        """Return the data from the first delimiter onwards; before it, the parser would accept only blank lines."""
        index = data.find(self._delimiter)
        if index >= 0:
            self._preamble = None
            return data[index + 2 :]
        if len(data) > MAX_HEADER_BYTES:
            raise MultipartError("The multipart boundary does not occur in the body.")
        self._preamble = data
        return b""

    # Callbacks of the parser

    def _begin_part(self) -> None:
        if self._has_part:
            raise MultipartError(f"The form has more than one part; exactly one named '{PART_NAME}' is needed.")
        self._has_part = True

    def _take_header_name(self, data: bytes, start: int, end: int) -> None:
        self._header_name += data[start:end]

    def _take_header_value(self, data: bytes, start: int, end: int) -> None:
        self._header_value += data[start:end]

    def _end_header(self) -> None:
        if self._header_name.lower() == b"content-disposition":
            self._disposition = self._header_value
        self._header_name = self._header_value = b""

    def _check_name(self) -> None:
        _, options = parse_options_header(self._disposition)
        if options.get(b"name") != PART_NAME.encode():
            raise MultipartError(f"The part is not named '{PART_NAME}'.")

    def _take_content(self, data: bytes, start: int, end: int) -> None:
        self._content.append(data[start:end])

    def _end(self) -> None:
        if not self._has_part:
            raise MultipartError(f"The form has no part; one named '{PART_NAME}' is needed.")
        self._is_ended = True
