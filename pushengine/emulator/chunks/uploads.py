"""Uploaded files on disk, written and hashed off the event loop while the rest of the body is still arriving."""

import base64
import hashlib
import tempfile
import uuid
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Protocol

from pushengine.emulator.chunks.multipart import SingleFileForm
from pushengine.emulator.settings import EmulatorSettings


class TooLargeError(ValueError):
    """A file that exceeds the size limit of one upload."""


class Spool:
    """The temporary folder of uploaded files; it is deleted when the emulator closes."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pushengine-emulator-")

    @property
    def path(self) -> Path:
        """The path of the folder."""
        return Path(self._folder.name)

    def new_file(self) -> Path:
        """Return an unused path for a new file."""
        return self.path / f"{uuid.uuid4().hex}.chunk"

    def close(self) -> None:
        """Delete the folder and everything in it."""
        self._folder.cleanup()


class Upload:
    """One multipart body that is written to a spool file; every method but `abandon` blocks."""

    def __init__(self, path: Path, boundary: bytes, settings: EmulatorSettings) -> None:
        self.path = path
        self.size_bytes = 0
        self._form = SingleFileForm(boundary)
        self._settings = settings
        self._digest = _Digest(settings)
        self._stream: BinaryIO | None = None
        self._is_abandoned = False

    def open(self) -> None:
        """Create the file."""
        self._stream = self.path.open("xb")
        if self._is_abandoned:
            self._stream.close()

    def write(self, data: bytes) -> None:
        """Parse the next piece of the body, and write and hash its content.

        Raises:
            MultipartError: The form is malformed.
            TooLargeError: The file is larger than `max_chunk_bytes`.
        """
        content = self._form.feed(data)
        self.size_bytes += len(content)
        if self.size_bytes > self._settings.max_chunk_bytes:
            raise TooLargeError(f"The file is larger than {self._settings.max_chunk_bytes} bytes.")
        self._digest.update(content if self._settings.checksum_covers == "file" else data)
        if self._stream is None:
            raise ValueError("the upload is not open")
        self._stream.write(content)

    def finish(self) -> str | None:
        """Close the file at the end of the body and return its checksum, or None if checksums are `opaque`.

        Raises:
            MultipartError: The body ended too early.
        """
        self._form.finish()
        self._close()
        return self._digest.text()

    def abandon(self) -> None:
        """Close the file, even while another thread uses it; safe at any time and more than once."""
        self._is_abandoned = True  # set first: a concurrent open() either sees this flag or has its stream closed here
        self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.close()


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...
    def digest(self) -> bytes: ...


class _Crc32:
    def __init__(self) -> None:
        self._value = 0

    def update(self, data: bytes, /) -> None:
        self._value = zlib.crc32(data, self._value)

    def digest(self) -> bytes:
        return self._value.to_bytes(4, "big")


_HASHES: dict[str, Callable[[], _Hash]] = {
    "md5": lambda: hashlib.md5(usedforsecurity=False),
    "sha1": lambda: hashlib.sha1(usedforsecurity=False),
    "sha256": hashlib.sha256,
    "crc32": _Crc32,
}


class _Digest:
    """The checksum of a chunk, computed and encoded as the settings specify."""

    def __init__(self, settings: EmulatorSettings) -> None:
        self._hash = None if settings.checksum == "opaque" else _HASHES[settings.checksum]()
        self._encoding = settings.checksum_encoding

    def update(self, data: bytes) -> None:
        if self._hash is not None:
            self._hash.update(data)

    def text(self) -> str | None:
        if self._hash is None:
            return None
        digest = self._hash.digest()
        return digest.hex() if self._encoding == "hex" else base64.b64encode(digest).decode()
