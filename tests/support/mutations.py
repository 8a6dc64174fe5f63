"""Files with bytes flipped, inserted, deleted, repeated or cut off, and a file system that counts how much is read of them."""

import io

from pushengine.runtime.files import LocalFileSystem

_SPECIAL = [
    b'"',
    b"'",
    b"\\",
    b",",
    b";",
    b"\t",
    b"|",
    b"\n",
    b"\r",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    b"",
]


def mutated(content, rng, marks=()):
    """Return the content with one to three random changes; `marks` are bytes that mean something in it."""
    for _ in range(rng.randint(1, 3)):
        content = _changed(content, rng, marks)
    return content


def _changed(content, rng, marks):
    at, end = sorted(rng.randint(0, len(content)) for _ in range(2))
    end = min(end, at + rng.choice([1, 1, 2, 8, 64, len(content)]))
    before, here, after = content[:at], content[at:end], content[end:]
    flipped = bytes([here[0] ^ 1 << rng.randrange(8)]) + here[1:] if here else b""
    other = bytes([rng.randrange(256)]) + here[1:] if here else b""
    return rng.choice(
        [
            before + flipped + after,
            before + other + after,
            before + rng.choice(_SPECIAL) + here + after,
            *(before + mark + here + after for mark in marks),
            before + after,
            before + here + here + after,
            before,
            before + here[::-1] + after,
        ]
    )


class _CountedFile(io.BufferedReader):
    """A file that adds the bytes and the calls of its reads to those of its file system."""

    def __init__(self, filesystem, file):
        super().__init__(file.raw if isinstance(file, io.BufferedReader) else file, 1)
        self._filesystem = filesystem

    def _count(self, size):
        self._filesystem.count(size)

    def read(self, size=-1, /):
        data = super().read(size)
        self._count(len(data))
        return data

    def readinto(self, target, /):
        size = super().readinto(target)
        self._count(size)
        return size


class TooMuchWorkError(AssertionError):
    """A small file is read as if it had no end."""


class CountingFileSystem(LocalFileSystem):
    """Files of this machine, of which no more than a bound may be read.

    Args:
        max_bytes: Bytes that may be read.
        max_reads: Reads that may be made.
    """

    def __init__(self, max_bytes, max_reads):
        super().__init__()
        self._max_bytes = max_bytes
        self._max_reads = max_reads
        self.bytes = 0
        self.reads = 0

    def count(self, size):
        """Count one read.

        Raises:
            TooMuchWorkError: That is too much.
        """
        self.bytes += size
        self.reads += 1
        if self.bytes > self._max_bytes or self.reads > self._max_reads:
            raise TooMuchWorkError(f"{self.reads} reads, {self.bytes} bytes")

    def open(self, file):
        """Open a file whose reads are counted."""
        return _CountedFile(self, super().open(file))
