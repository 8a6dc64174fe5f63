"""Local files, as sources and uploads use them."""

import os

import pytest

from pushengine.model import FileRef
from pushengine.runtime import files
from pushengine.runtime.files import LocalFileSystem, absolute_uri, scheme_of

FILES = LocalFileSystem()


def write(path, data=b"0123456789"):
    path.write_bytes(data)
    return path


async def read(file, *ranges):
    return [piece async for piece in FILES.read_ranges(file, ranges)]


def test_a_path_a_directory_and_a_pattern_list_files_in_order(tmp_path):
    for name in ("b.csv", "a.csv", ".hidden", "_SUCCESS"):
        write(tmp_path / name)
    (tmp_path / "folder.csv").mkdir()
    expected = [str(tmp_path / "a.csv"), str(tmp_path / "b.csv")]
    for pattern in (tmp_path, tmp_path / "*.csv"):
        assert [file.uri for file in FILES.list(str(pattern))] == expected
    assert [file.uri for file in FILES.list(str(tmp_path / "b.csv"))] == expected[1:]
    assert FILES.list(str(tmp_path / "c.csv")) == FILES.list(str(tmp_path / "*.parquet")) == []


def test_a_file_that_a_pattern_matches_twice_is_listed_once(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    write(tmp_path / "in" / "deep" / "a.csv")
    assert len(FILES.list(str(tmp_path / "**" / "**" / "*.csv"))) == 1


def test_names_that_lead_to_no_file_are_not_listed(tmp_path, monkeypatch):
    paths = [write(tmp_path / name) for name in ("a.csv", "b.csv")]
    monkeypatch.setattr(files.glob, "glob", lambda *_, **__: [*map(str, paths), str(tmp_path / "gone.csv")])
    assert [file.name for file in FILES.list(str(tmp_path / "*.csv"))] == ["a.csv", "b.csv"]
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    assert FILES.list(str(tmp_path / "loop.csv")) == FILES.list("a\0b.csv") == []


def test_an_existing_name_with_pattern_characters_is_not_a_pattern(tmp_path):
    write(tmp_path / "a[1].csv")
    write(tmp_path / "a1.csv")
    assert [file.name for file in FILES.list(str(tmp_path / "a[1].csv"))] == ["a[1].csv"]


def test_a_file_keeps_its_version_until_something_changes(tmp_path):
    path = write(tmp_path / "a.csv")
    (file,) = FILES.list(str(path))
    assert (file.size, file.name) == (10, "a.csv")
    assert FILES.stat(file) == file
    os.utime(path, ns=(1, 1))
    touched = FILES.stat(file)
    assert touched.version[0] == 1
    assert (touched.uri, touched.size) == (file.uri, file.size)
    write(path, b"more than before")
    assert FILES.stat(file).size == 16
    assert FILES.stat(file).version != touched.version


def test_a_missing_file_is_an_os_error(tmp_path):
    gone = FileRef(str(tmp_path / "gone"), 1, (0, 0, 0, 0))
    with pytest.raises(FileNotFoundError):
        FILES.stat(gone)
    with pytest.raises(FileNotFoundError):
        FILES.open(gone)


async def test_a_range_is_read_in_pieces_and_no_further(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "_PIECE_BYTES", 3)
    (file,) = FILES.list(str(write(tmp_path / "a")))
    assert await read(file, (2, 7)) == [b"234", b"567", b"8"]
    assert await read(file, (8, 1), (0, 4)) == [b"8", b"012", b"3"]
    assert await read(file, (8, 7), (0, 4)) == [b"89"]
    assert await read(file, (20, 7)) == await read(file, (0, 0)) == await read(file) == []


async def test_a_range_of_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        await read(FileRef(str(tmp_path / "gone"), 1, (0, 0, 0, 0)), (0, 1))


def test_a_uri_with_a_scheme_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert absolute_uri("a.csv") == str(tmp_path / "a.csv")
    assert absolute_uri("s3://bucket/a.csv") == "s3://bucket/a.csv"
    assert [scheme_of(word) for word in ("S3://b", "a.csv", "C:/a", "C://a", "/a://b")] == [
        "s3",
        None,
        None,
        None,
        None,
    ]
