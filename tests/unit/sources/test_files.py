"""Paths and addresses that name sources."""

import os
from pathlib import Path

import pytest

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError, SchemaError, SourceReadError
from pushengine.model import FileRef
from pushengine.push.plan import plan_source
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import check_paths, open_source
from pushengine.sources.files import require_same_columns


@pytest.mark.parametrize("spec", ["", [""], ["a.csv", ""], ("", "a.csv"), [Path("a.csv"), ""]], ids=repr)
def test_an_empty_string_is_rejected_as_a_source(spec):
    """`Path("")` means the current directory. Without this check, an empty string would mean it too."""
    with pytest.raises(ConfigError, match=r"empty.*unset") as caught:
        check_paths(spec)
    assert caught.value.key == "source"
    with pytest.raises(ConfigError, match="empty"):
        open_source(spec, settings=EngineSettings(), filesystem=LocalFileSystem())


class Address(os.PathLike):
    """A path object as some cloud libraries define it."""

    def __init__(self, address):
        self.address = address

    def __fspath__(self):
        return self.address


@pytest.mark.parametrize(
    ("spec", "address"),
    [
        ("s3://bucket/orders.csv", "s3://bucket/orders.csv"),
        ("gs://bucket/*.parquet", "gs://bucket/*.parquet"),
        ("HTTPS://host/a.csv", "HTTPS://host/a.csv"),
        (["a.csv", "abfss://box@host/a.csv"], "abfss://box@host/a.csv"),
        (Path("s3://bucket/orders.csv"), "s3://bucket/orders.csv"),
        (Address("s3://bucket/orders.csv"), "s3://bucket/orders.csv"),
    ],
    ids=lambda spec: os.fspath(spec) if isinstance(spec, os.PathLike) else str(spec),
)
def test_an_address_of_another_system_is_rejected_by_name(spec, address, tmp_path, monkeypatch):
    """The address must not be taken for a path below the current directory."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.csv").write_text("N\n1\n")
    with pytest.raises(ConfigError, match="not supported yet") as caught:
        open_source(spec, settings=EngineSettings(), filesystem=LocalFileSystem())
    assert str(caught.value).startswith(f"{address} cannot be read: ")
    assert "copy the files to this machine" in caught.value.hint


def test_the_hint_for_a_file_address_asks_for_its_path():
    with pytest.raises(ConfigError, match="file://") as caught:
        check_paths("file:///tmp/a.csv")
    assert "its path" in caught.value.hint


@pytest.mark.parametrize("path", ["host:/srv/orders.csv", "s3:/bucket/orders.csv"])
def test_a_string_with_one_slash_is_a_path(path, tmp_path, monkeypatch):
    """Only `pathlib` reduces the two slashes of an address to one, so a string with one slash is not an address."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SourceReadError, match="no such file") as caught:
        open_source(path, settings=EngineSettings(), filesystem=LocalFileSystem())
    assert caught.value.source == path


@pytest.mark.parametrize("name", ["s3:", "a:b"])
def test_a_directory_whose_name_looks_like_a_scheme_is_a_directory(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    (tmp_path / name / "a.csv").write_text("N\n1\n")
    source = open_source(Path(name, "a.csv"), settings=EngineSettings(), filesystem=LocalFileSystem())
    assert [file.uri for file in source.files] == [f"{name}/a.csv"]


@pytest.mark.parametrize(
    "spec",
    [
        "a.csv",
        " ",
        "C:\\a.csv",
        "C:/a.csv",
        "a://b",
        "s3:/a.csv",
        [],
        ["a.csv", "b.csv"],
        Path(),
        b"",
        0,
        None,
        {"": 1},
        [1, 2],
    ],
    ids=repr,
)
def test_other_specs_are_left_to_later_checks(spec):
    check_paths(spec)


async def test_a_plan_for_an_empty_source_name_is_rejected(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("N\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="empty"):
        await plan_source("", table="T")


# --- Columns of several files


REFS = [FileRef(name, 0, (0,)) for name in ("1.csv", "2.csv")]


@pytest.mark.parametrize(
    ("first", "names", "message"),
    [
        (["A", "B"], ["A"], "lacks B"),
        (["A"], ["A", "B", "C"], "adds B, C"),
        (["A", "B"], ["C", "A"], "lacks B and adds C"),
        (["NAME"], ["NAME "], "lacks 'NAME' and adds 'NAME '"),
        (["A"], ["A", "A"], "one appears twice"),
        ([f"C{number}" for number in range(9)], [], "lacks C0, C1, C2, C3, C4"),
    ],
)
def test_other_columns_than_those_of_the_first_file_are_named(first, names, message):
    with pytest.raises(SchemaError) as caught:
        require_same_columns(first, REFS[0], names, REFS[1], position="line 1")
    assert caught.value.message == f"columns differ from those in 1.csv: {message}"
    assert (caught.value.source, caught.value.position) == ("2.csv", "line 1")
    assert ("--trim" in caught.value.hint) == ("NAME " in names)


def test_the_order_of_columns_does_not_matter():
    require_same_columns(["A", "B"], REFS[0], ["B", "A"], REFS[1])
