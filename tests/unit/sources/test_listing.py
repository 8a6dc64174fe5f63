"""Which files a source stands for, and why some cannot be listed together."""

import os

import pytest

from pushengine.errors import ConfigError, SourceReadError
from pushengine.model import FileRef
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources.listing import list_files


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text(name)
    return tmp_path


def listed(*words, **options):
    return [file.uri for file in list_files(words, LocalFileSystem(), **options)]


def test_files_keep_the_order_in_which_they_are_named(folder):
    assert listed("b.csv", "a.csv") == ["b.csv", "a.csv"]
    assert listed("*.csv") == ["a.csv", "b.csv"]


@pytest.mark.parametrize("words", [["a.csv", "a.csv"], ["*.csv", "b.csv"], ["./a.csv", "a.csv"]])
def test_a_file_that_is_named_twice_is_refused(folder, words):
    with pytest.raises(ConfigError, match=r"[ab]\.csv is named twice"):
        listed(*words)


def test_links_in_a_pattern_are_refused_with_both_names(folder):
    os.link("a.csv", "c.csv")
    with pytest.raises(ConfigError, match=r"a\.csv and c\.csv are the same file"):
        listed("*.csv")


@pytest.mark.parametrize("other", ["a.csv.gz", "a.csv.zst", "a.csv.XZ"])
def test_a_file_and_its_compressed_copy_are_refused(folder, other):
    (folder / other).write_bytes(b"x")
    with pytest.raises(ConfigError, match=rf"a\.csv and {other} have the same name but for the compression"):
        listed("a.csv", other)
    assert listed("b.csv", other) == ["b.csv", other]


def test_copies_in_two_folders_are_two_files(folder):
    (folder / "old").mkdir()
    (folder / "old" / "a.csv.gz").write_bytes(b"x")
    assert listed("a.csv", "old/a.csv.gz") == ["a.csv", "old/a.csv.gz"]


class Store:
    """A file system whose versions are hashes of the content."""

    def list(self, pattern):
        return [FileRef(f"{pattern}/{number}.csv", 3, ("hash",)) for number in range(2)]


def test_files_of_a_store_without_inodes_may_have_the_same_content():
    assert [file.uri for file in list_files(["box"], Store())] == ["box/0.csv", "box/1.csv"]


def test_no_file_may_be_allowed(folder):
    assert listed("missing.csv", allow_none=True) == []
    with pytest.raises(SourceReadError, match="no such file"):
        listed("missing.csv")


@pytest.mark.parametrize(
    ("word", "message", "hint"),
    [
        ("aa.csv", "no such file", "did you mean a.csv?"),
        ("~nobody-/a.csv", "no such file", "there is no folder ~nobody-"),
        ("x/y/z.csv", "no such file", "there is no folder x"),
        ("[x].csv", "no file matches this pattern", "has a.csv, b.csv"),
        ("x*/**/*.csv", "no file matches this pattern", "has a.csv, b.csv"),
        ("/dev/null", "not a file, but a device or a socket", "name a file or a pipe"),
        ("a.csv/b.csv", "no such file", "there is no folder a.csv"),
    ],
)
def test_the_hint_names_what_is_there(folder, word, message, hint):
    with pytest.raises(SourceReadError, match=message) as caught:
        listed(word)
    assert hint in caught.value.hint
    assert caught.value.source == word


def test_a_hint_shows_names_that_cannot_be_seen_and_can_be_pasted(folder):
    (folder / "orders\u200b.csv").write_text("x")
    with pytest.raises(SourceReadError) as caught:
        listed("orders.csv")
    assert caught.value.hint == r"did you mean $'orders\u200b.csv'?"
