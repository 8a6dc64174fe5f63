"""A table of odd files: what each is pushed with, and exactly what lands, or how it is refused and where the hint leads.

The files go through the command line and the engine into a platform in memory: a push takes a tenth of the time that one into the emulator
takes. The rows are read from the chunks that were submitted.
"""

import dataclasses
import datetime as dt
import functools
import io
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import typer.main
from support.command_line import CommandLine

import pushengine.engine
from pushengine.model import FileParts, FileSlice
from pushengine.testing import MemoryDestination

TABLE = "T"
HOST = "acme.example.com"
_FIRST = "the first that the hint names"


@dataclasses.dataclass(frozen=True)
class OddFile:
    """Files, the flags that they are pushed with, and what must come of it.

    Attributes:
        title: What is odd.
        files: File name -> content. The name `-` is standard input.
        words: Flags of the push.
        columns: Column -> type of the table; empty if the files are refused and no flag helps.
        rows: The rows that land, in order. A DATETIME is written as text: `2024-01-31`, `2024-01-31 10:00:00.5`.
        code: Exit code; not 0 if the files are refused.
        says: Texts that the error, or a note, contains.
        hint: Flag of the alternative in the hint that is run: `columns` and `rows` are what lands then. None if no flag helps.
        before: Content and flags of a push into the same table before this one.
        rejects: Number of rows that are left out.
    """

    title: str
    files: Mapping[str, bytes]
    words: tuple[str, ...]
    columns: Mapping[str, str]
    rows: list[tuple]
    code: int = 0
    says: tuple[str, ...] = ()
    hint: str | None = None
    before: tuple[bytes, tuple[str, ...]] | None = None
    rejects: int = 0

    def __str__(self):
        return self.title

    @property
    def sources(self):
        """The files that are pushed together, in their order: all but a config file."""
        return [name for name in self.files if not name.endswith(".toml")]


def lands(title, content, words="", *, columns, rows, notes=(), name="input.csv", before=None, rejects=0):
    """A file that is loaded.

    Args:
        title: What is odd.
        content: Text (UTF-8), bytes, or a mapping of file name to either.
        words: Flags, as in a shell.
        columns: The columns, as `--column` writes them: `ID=INTEGER NAME=STRING`; or a mapping.
        rows: The rows.
        notes: Texts that the notes of the receipt contain.
        name: Name of the file.
        before: Content, or content and flags, of an earlier push into the table.
        rejects: Number of rows that are left out.
    """
    return OddFile(
        title,
        _files(content, name),
        tuple(shlex.split(words)),
        _columns(columns),
        rows,
        says=_texts(notes),
        before=None if before is None else _before(before),
        rejects=rejects,
    )


def refused(title, content, words="", *, says, hint=None, columns="", rows=(), code=3, name="input.csv", before=None):
    """A file that is refused before the submit; with `hint`, the flag of that name in the hint leads to `columns` and `rows`.

    The other arguments are those of `lands`. `hint=True` takes the first alternative of the hint.
    """
    return OddFile(
        title,
        _files(content, name),
        tuple(shlex.split(words)),
        _columns(columns),
        list(rows),
        code=code,
        says=_texts(says),
        hint=_FIRST if hint is True else hint,
        before=None if before is None else _before(before),
    )


def _files(content, name):
    files = content if isinstance(content, Mapping) else {name: content}
    return {one: text.encode() if isinstance(text, str) else text for one, text in files.items()}


def _columns(text):
    return text if isinstance(text, Mapping) else dict(word.rsplit("=", 1) for word in text.split())


def _texts(text):
    return (text,) if isinstance(text, str) else tuple(text)


def _before(before):
    content, words = before if isinstance(before, tuple) else (before, "")
    return content.encode(), tuple(shlex.split(words))


# --- How a file is pushed


class Landing(MemoryDestination):
    """A platform in memory that shows what was submitted."""

    def __init__(self):
        super().__init__(HOST)

    def table(self):
        """Return the columns (name -> type) and the rows of the last job that was submitted."""
        job = list(self.jobs.values())[-1]
        assert self.calls.count("submit") >= 1
        columns = {column.name: column.type for column in job.columns}
        payloads = sorted(job.payloads, key=lambda payload: payload.chunk_id)
        return columns, [row for payload in payloads for row in _rows(payload, columns)]


def _rows(payload, columns):
    data = _bytes_of(payload.data.parts) if isinstance(payload.data, FileParts) else payload.data
    table = pq.read_table(pa.BufferReader(data), coerce_int96_timestamp_unit="us")
    assert table.column_names == list(columns)
    values = [_shown(table.column(name)) for name in columns]
    return list(zip(*values, strict=True))


def _bytes_of(parts):
    """Return the content of file slices and bytes."""
    return b"".join(
        Path(part.file.uri).read_bytes()[part.offset : part.offset + part.nbytes]
        if isinstance(part, FileSlice)
        else part
        for part in parts
    )


def _shown(column):
    if pa.types.is_timestamp(column.type):
        return [None if value is None else _time(value) for value in column.cast("timestamp[us]").to_pylist()]
    return column.to_pylist()


def _time(value):
    text = value.isoformat(" ").rstrip("0") if value.microsecond else value.isoformat(" ")
    return text.removesuffix(" 00:00:00") if value.time() == dt.time() else text


_get_command = functools.cache(typer.main.get_command)


class QuickCommandLine(CommandLine):
    """The command line in this process, against a platform in memory.

    Attributes:
        platform: The platform of the last push.
    """

    def __init__(self, folder, monkeypatch):
        super().__init__(folder, monkeypatch)
        self.platform = Landing()
        monkeypatch.setattr(pushengine.engine, "DataPushClient", lambda *_args, **_settings: self.platform)
        monkeypatch.setattr(typer.main, "get_command", _get_command)  # makes all commands anew for each run
        monkeypatch.setenv("PUSHENGINE_URL", f"https://{HOST}")
        monkeypatch.setenv("PUSHENGINE_POOL_ID", "pool")
        monkeypatch.setenv("PUSHENGINE_API_KEY", "key")

    def push(self, sources, *words, table=TABLE):
        """Push files into a table of a new platform."""
        self.platform = Landing()
        return self.run("push", *sources, "--table", table, *words, "--json")

    def plan(self, sources, *words, table=TABLE):
        """Plan the push."""
        return self.run("plan", *sources, "--table", table, *words, "--json")


def check(odd, folder, monkeypatch):
    """Push an odd file, and assert that what must come of it has come of it."""
    cli = QuickCommandLine(folder, monkeypatch)
    if odd.before is not None:
        content, words = odd.before
        (folder / "before.csv").write_bytes(content)
        pushed = cli.push(["before.csv"], *words)
        assert pushed.code == 0, pushed.err
    for name, content in odd.files.items():
        if name == "-":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        else:
            (folder / name).write_bytes(content)
    words = list(odd.words)
    if odd.code:
        words += _check_refusal(odd, cli)
        if odd.hint is None:
            return
    pushed = cli.push(odd.sources, *words)
    assert pushed.code == 0, pushed.err
    receipt = pushed.json
    assert cli.platform.table() == (dict(odd.columns), odd.rows)
    assert (receipt["status"], receipt["rows"]) == ("DONE", len(odd.rows))
    assert {column["name"]: column["type"] for column in receipt["schema"]} == odd.columns
    assert (receipt["rejects"] or {"rows": 0})["rows"] == odd.rejects
    if not odd.code:
        notes = "\n".join(receipt["notes"])
        assert [text for text in odd.says if text not in notes] == [], notes
    if "-" not in odd.files:
        planned = cli.plan(odd.sources, *words)
        assert planned.code == 0, planned.err
        assert {column["name"]: column["type"] for column in planned.json["schema"]} == odd.columns


def _check_refusal(odd, cli):
    """Return the flags that the hint names."""
    pushed = cli.push(odd.sources, *odd.words)
    assert pushed.code == odd.code, (pushed.out, pushed.err)
    assert "submit" not in cli.platform.calls
    assert [text for text in odd.says if text not in pushed.err] == [], pushed.err
    assert "\x1b" not in pushed.err
    if odd.hint is None:
        return []
    assert pushed.suggestions, pushed.err
    return pushed.suggestions[0] if odd.hint == _FIRST else pushed.suggestion(odd.hint)
