"""Pipes: which paths are some, and that waiting for a writer can be ended."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from pushengine.errors import ConfigError, SourceReadError
from pushengine.sources.pipes import Pipe, find_pipe
from pushengine.sources.registry import names_paths
from pushengine.sources.spool import copied_stream


@pytest.fixture
def fifo(tmp_path):
    path = tmp_path / "rows.csv"
    os.mkfifo(path)
    return path


@pytest.mark.parametrize("word", ["/dev/stdin", "/dev/fd/0", "/dev/fd/63", "/proc/self/fd/3"])
def test_a_descriptor_is_a_pipe_whatever_is_behind_it(word):
    with find_pipe(word) as pipe:
        assert (pipe.name, pipe.format) == (word, None)


def test_a_fifo_is_a_pipe_and_its_name_shows_the_format(fifo):
    for source in (fifo, str(fifo), [fifo]):
        with find_pipe(source) as pipe:
            assert (pipe.name, pipe.format) == (str(fifo), "csv")


@pytest.mark.parametrize("name", ["a.csv", "missing.csv", "", "a\0b", "/dev/null"])
def test_other_paths_are_no_pipes(tmp_path, name):
    (tmp_path / "a.csv").touch()
    assert find_pipe(str(tmp_path / name) if name != "/dev/null" and "\0" not in name else name) is None


def test_a_pipe_is_pushed_alone(fifo):
    for other in ("a.csv", "-"):
        with pytest.raises(ConfigError, match="cannot be one of several sources"):
            find_pipe([other, fifo])


def test_only_paths_are_looked_up():
    assert names_paths("a")
    assert names_paths(["a", "b"])
    assert not names_paths([])
    assert not names_paths(object())
    assert not names_paths([object()])


def test_all_bytes_are_read_also_of_several_writers_in_turn(fifo):
    with Pipe(str(fifo)) as pipe:

        def write():
            with open(fifo, "wb", buffering=0) as first:
                first.write(b"one")
                with open(fifo, "wb", buffering=0) as second:
                    second.write(b"two")

        writer = threading.Thread(target=write)
        writer.start()
        found = b"".join(iter(lambda: pipe.read(2), b""))
        writer.join()
    assert found == b"onetwo"


def test_closing_ends_the_wait_for_a_writer(fifo):
    pipe = Pipe(str(fifo))
    found = []
    is_waiting = threading.Event()

    def read():
        is_waiting.set()
        found.append(pipe.read(10))

    reader = threading.Thread(target=read)
    reader.start()
    is_waiting.wait()
    pipe.close()
    reader.join()
    assert found == [b""]
    assert pipe.read(10) == b""
    pipe.close()


def test_a_pipe_that_is_gone_is_an_error_of_the_source(fifo):
    with Pipe(str(fifo)) as pipe:
        fifo.unlink()
        with pytest.raises(SourceReadError, match="No such file") as caught:
            pipe.read(1)
    assert caught.value.source == str(fifo)


async def test_a_pipe_whose_format_is_not_known_is_closed(tmp_path):
    os.mkfifo(tmp_path / "rows")
    before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(ConfigError, match="no file name"):
        async with copied_stream(str(tmp_path / "rows"), None, asyncio.to_thread):
            pass
    assert len(list(Path("/dev/fd").iterdir())) == before
