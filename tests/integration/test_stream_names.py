"""Messages about a stream name what the user pushed, such as standard input, and never its copy in the spool."""

import csv
import gzip
import io
import os
import sys
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.command_line import CommandLine

from pushengine.errors import EngineClosedError, SourceError

PUSH = ("push", "-", "--table", "T", "--emulator", "out.duckdb")
PLAN = ("plan", "-", "--table", "T")


def parquet(table):
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


class Broken:
    """Standard input that fails after its first bytes."""

    def __init__(self):
        self._pieces = [b"A\n1\n"]

    def read(self, _size):
        if not self._pieces:
            raise OSError(5, "Input/output error")
        return self._pieces.pop()


@pytest.fixture
def cli(tmp_path, monkeypatch):
    return CommandLine(tmp_path, monkeypatch)


@pytest.fixture
def piped(cli, monkeypatch):
    """Return a function that runs a command with bytes on standard input."""

    def run(content, *words):
        path = cli.folder / "content"
        path.write_bytes(content)
        with path.open("rb") as file:
            monkeypatch.setattr(sys, "stdin", Stdin(file))
            return cli.run(*words)

    return run


class Stdin:
    """Standard input as the interpreter names it."""

    def __init__(self, stream):
        self.buffer = Named(stream)


class Named:
    """A byte stream named like standard input."""

    name = "<stdin>"

    def __init__(self, stream):
        self.read = stream.read


REFUSED = {
    "nothing": (b"", "csv"),
    "header only": (b"A,B\n", "csv"),
    "ragged row": (b"A,B\n1,2\n1,2,3\n", "csv"),
    "not text": (b"A,B\n\xff\xfe,\x00\n", "csv"),
    "unclosed quote": (b'A,B\n"1,2\n', "csv"),
    "other format": (b"PAR1 and so on", "arrow"),
    "damaged Parquet": (b"PAR1" + bytes(100) + b"PAR1", "parquet"),
    "cut Parquet": (parquet(pa.table({"A": range(1000)}))[:-20], "parquet"),
    "damaged Arrow": (b"ARROW1\0\0" + bytes(100), "arrow"),
    "type of Parquet": (parquet(pa.table({"A": [[1]]})), "parquet"),
    "compressed": (gzip.compress(b"A,B\n1,2\n"), "parquet"),
}


@pytest.mark.parametrize("words", [PUSH, PLAN], ids=["push", "plan"])
@pytest.mark.parametrize("case", REFUSED)
def test_a_refusal_names_standard_input(piped, case, words):
    content, name = REFUSED[case]
    result = piped(content, *words, "--format", name)
    if words == PLAN and case == "header only" and not result.code:
        pytest.skip("a plan of it is a plan")
    assert result.code == 3, result.err
    assert "standard input" in result.error
    assert_spool_is_unnamed(result)


def assert_spool_is_unnamed(result):
    assert "spool" not in result.out + result.err
    assert "stream." not in result.out + result.err
    assert "/tmp" not in result.err.replace(os.getcwd(), "")


@pytest.mark.parametrize("words", [PUSH, PLAN], ids=["push", "plan"])
def test_a_value_that_does_not_fit_names_standard_input(piped, words):
    rows = b"".join(b"%d\n" % number for number in range(100_000))
    result = piped(b"A\n" + rows + b"x\n", *words, "--format", "csv", "--column", "A=INTEGER")
    if result.code:
        assert "standard input" in result.error
    assert_spool_is_unnamed(result)


def test_rejected_rows_name_standard_input(piped, cli):
    result = piped(
        b"A\n1\nx\n", *PUSH, "--format", "csv", "--column", "A=INTEGER", "--max-rejects", "1", "--rejects", "r"
    )
    assert result.code == 0, result.err
    (listed,) = (cli.folder / "r").iterdir()
    rows = csv.DictReader(listed.read_text(encoding="utf-8").splitlines())
    assert [row["file"] for row in rows] == ["standard input"]


def test_too_many_rejected_rows_name_standard_input(piped):
    words = ("--format", "csv", "--column", "A=INTEGER", "--max-rejects", "1", "--rejects", "r")
    result = piped(b"A\n1\nx\ny\n", *PUSH, *words)
    assert result.code == 3
    assert "standard input" in result.error


def test_plan_receipt_history_and_story_name_standard_input(piped, cli, monkeypatch):
    planned = piped(b"A,B\n1,2\n", *PLAN, "--format", "csv", "--json")
    assert planned.json["files"] == ["standard input"]
    pushed = piped(b"A,B\n1,2\n", *PUSH, "--format", "csv")
    assert pushed.code == 0, pushed.err
    assert_spool_is_unnamed(pushed)
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", str(cli.folder / "out.duckdb.state"))
    (push,) = cli.run("history", "--json").json["pushes"]
    assert cli.run("show", push["push_id"], "--json").json["source"] == "standard input"
    assert "standard input" in cli.run("show", "T").out


def test_a_failure_of_standard_input_itself_is_about_the_source(cli, monkeypatch):
    for words in (PUSH, PLAN):
        broken = Stdin(Broken())
        monkeypatch.setattr(sys, "stdin", broken)
        result = cli.run(*words, "--format", "csv")
        assert result.code == 3, result.err
        assert result.error == "error: standard input: Input/output error"


def test_closed_standard_input_is_about_the_source(cli, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    result = cli.run(*PUSH, "--format", "csv")
    assert (result.code, result.error) == (3, "error: standard input: it is closed")


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda path: io.BytesIO(path.read_bytes()), "BytesIO"),
        (lambda path: path.open("rb"), "{folder}/bad.csv"),
        (lambda path: gzip.GzipFile(fileobj=io.BytesIO(gzip.compress(path.read_bytes()))), "GzipFile"),
        (lambda path: os.fdopen(os.open(path, os.O_RDONLY), "rb"), "BufferedReader"),
    ],
    ids=["memory", "file", "gzip", "descriptor"],
)
async def test_a_file_object_is_named_by_its_name_or_its_class(stage, tmp_path, make, name):
    path = tmp_path / "bad.csv"
    path.write_bytes(b"A,B\n1,2\n1,2,3\n")
    with make(path) as stream, pytest.raises(Exception, match="fields") as caught:
        await stage.push(stream, format="csv")
    assert caught.value.source == name.format(folder=tmp_path)


def test_a_pipe_is_named_by_its_path(cli):
    os.mkfifo("pipe.csv")
    writer = threading.Thread(target=lambda: (cli.folder / "pipe.csv").write_bytes(b"A,B\n1,2\n1,2,3\n"))
    writer.start()
    result = cli.push("pipe.csv")
    writer.join()
    assert result.code == 3
    assert result.error.startswith("error: pipe.csv, line 3")


async def test_a_push_that_is_resumed_by_its_id_still_names_the_stream(start):
    stage = await start(chunk_bytes=64 * 1024, max_uploads=1)
    upload, sent = stage.engine._client.upload_chunk, []

    async def cut_after_one(*args):
        if sent:
            stage.engine.drain()
        await upload(*args)
        sent.append(args)

    stage.engine._client.upload_chunk = cut_after_one
    stream = io.BytesIO(b"A\n" + b"".join(b"%d\n" % number for number in range(50_000)))
    with pytest.raises(EngineClosedError) as interrupted:
        await stage.push(stream, format="csv")
    await stage.engine.aclose()
    (copy,) = (stage.folder / "state" / "spool").iterdir()
    with copy.open("ab") as file:
        file.write(b"1,2,3\n")

    engine = await stage.open_engine(chunk_bytes=64 * 1024)
    with pytest.raises(SourceError) as caught:
        await engine.resume(interrupted.value.receipt.push_id)
    assert caught.value.source == "BytesIO"
    assert str(copy) not in str(caught.value)
