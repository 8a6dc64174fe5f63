"""Files are moved or deleted once, only unchanged, never over another file, and a kill at any step is finished by the next run."""

import asyncio
import dataclasses
import datetime as dt
import errno
import hashlib
import json
import os
from pathlib import Path

import pytest

from pushengine.config.loads.resolved import LoadSettings
from pushengine.journal.loads import FileRow
from pushengine.loads.files.cleanup import Disk, clean_up, is_moved_away, pending
from pushengine.runtime.files import LocalFileSystem

NOW = dt.datetime(2026, 11, 27, 12, tzinfo=dt.UTC).timestamp()


class Killed(BaseException):
    pass


class Steps(Disk):
    """Counts the changes to files and the writes of the journal, and is killed before or after one of them."""

    def __init__(self, stop_at=None, *, after=False, is_other_device=False, has_links=True):
        self.count, self.stop_at, self.after = 0, stop_at, after
        self.is_other_device, self.has_links = is_other_device, has_links

    def step(self, action, *args):
        self.count += 1
        if self.count == self.stop_at and not self.after:
            raise Killed
        action(*args)
        if self.count == self.stop_at:
            raise Killed

    def _refuse(self, source, to):
        if self.is_other_device and source.parent != to.parent:
            raise OSError(errno.EXDEV, "Invalid cross-device link")

    def link(self, source, to):
        self._refuse(source, to)
        if not self.has_links:
            raise OSError(errno.EPERM, "Operation not permitted")
        self.step(super().link, source, to)

    def rename(self, source, to):
        self._refuse(source, to)
        self.step(super().rename, source, to)

    def reserve(self, path):
        self.step(super().reserve, path)

    def copy(self, source, to):
        if self.count + 1 == self.stop_at and self.after:
            to.write_bytes(source.read_bytes()[:2])  # killed in the middle
        self.step(super().copy, source, to)

    def unlink(self, path):
        self.step(super().unlink, path)

    def make_folder(self, folder):
        self.step(super().make_folder, folder)


def row_of(path, **changes):
    [file] = LocalFileSystem().list(str(path))
    row = FileRow(
        load="sap", table="A", path=file.uri, size=file.size, version=file.version, state="loaded", push_id="p",
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
    )  # fmt: skip
    return dataclasses.replace(row, **changes)


def settings(cleanup="move", **changes):
    return LoadSettings(rule="sap", table="A", cleanup=cleanup, **changes)


def run(load, rows, disk=None):
    """Clean up and keep in `rows` what was stored."""

    async def off_loop(function, *args):
        return function(*args)

    def put(row, former):
        rows.pop(former)
        rows[row.path] = row

    async def store(row, former):
        if disk is None:
            put(row, former)
        else:
            disk.step(put, row, former)

    return asyncio.run(clean_up(load, list(rows.values()), store=store, off_loop=off_loop, now=NOW, disk=disk))


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_loaded_file_is_moved_to_a_dated_folder(tmp_path):
    path = tmp_path / "A.csv.gz"
    path.write_text("content")
    rows = {str(path): row_of(path)}

    [cleaned] = run(settings(), rows)

    assert files_in(tmp_path) == {"loaded/2026-11-27/A.csv.gz": "content"}
    assert json.loads(cleaned.row.cleanup) == {"done": "move", "to": f"{tmp_path}/loaded/2026-11-27/A.csv.gz"}
    assert rows == {
        f"{tmp_path}/loaded/2026-11-27/A.csv.gz": cleaned.row
    }  # another file may come under the former name
    assert run(settings(), rows) == []


def test_a_move_never_overwrites(tmp_path):
    for content in ("one", "two", "three"):
        path = tmp_path / "A.csv.gz"
        path.write_text(content)
        run(settings(cleanup_dir=tmp_path / "old"), {str(path): row_of(path)})

    assert files_in(tmp_path) == {
        "old/2026-11-27/A.csv.gz": "one", "old/2026-11-27/A-2.csv.gz": "two", "old/2026-11-27/A-3.csv.gz": "three",
    }  # fmt: skip


def test_a_name_that_is_taken_in_the_last_instant_is_not_overwritten(tmp_path):
    path = tmp_path / "A.csv"
    path.write_text("content")

    class Racing(Disk):
        def make_folder(self, folder):
            super().make_folder(folder)
            (folder / "A.csv").write_text("foreign")

    rows = {str(path): row_of(path)}
    asyncio.run(_clean(settings(), rows, Racing()))

    assert files_in(tmp_path) == {"loaded/2026-11-27/A.csv": "foreign", "loaded/2026-11-27/A-2.csv": "content"}


async def _clean(load, rows, disk):
    async def off_loop(function, *args):
        return function(*args)

    async def store(row, former):
        rows[row.path] = row

    return await clean_up(load, list(rows.values()), store=store, off_loop=off_loop, now=NOW, disk=disk)


def test_a_loaded_file_is_deleted(tmp_path):
    path = tmp_path / "A.csv"
    path.write_text("content")
    rows = {str(path): row_of(path)}

    run(settings("delete"), rows)

    assert files_in(tmp_path) == {}
    assert run(settings("delete"), rows) == []


@pytest.mark.parametrize("cleanup", ["move", "delete"])
def test_a_file_that_changed_since_it_was_loaded_is_left(tmp_path, cleanup):
    path = tmp_path / "A.csv"
    path.write_text("content")
    rows = {str(path): row_of(path)}
    os.utime(path, (1, 1))

    [cleaned] = run(settings(cleanup), rows)

    assert cleaned.problem == "it has changed since it was loaded"
    assert files_in(tmp_path) == {"A.csv": "content"}


def test_what_is_not_loaded_or_to_be_left_is_not_touched(tmp_path):
    path = tmp_path / "A.csv"
    path.write_text("content")
    row = row_of(path)

    assert pending(settings("leave"), [row]) == []
    assert (
        pending(settings(), [dataclasses.replace(row, state="seen"), dataclasses.replace(row, state="skipped")]) == []
    )


def test_a_file_that_somebody_else_has_moved_is_done_with(tmp_path):
    path = tmp_path / "A.csv"
    path.write_text("content")
    rows = {str(path): row_of(path)}
    path.unlink()

    [cleaned] = run(settings(), rows)

    assert json.loads(cleaned.row.cleanup) == {"done": "gone"}
    assert run(settings(), rows) == []


def test_a_file_that_cannot_be_moved_is_left_and_tried_again(tmp_path):
    path = tmp_path / "A.csv"
    path.write_text("content")
    rows = {str(path): row_of(path)}
    (tmp_path / "loaded").write_text("in the way")

    [cleaned] = run(settings(), rows)

    assert cleaned.problem.startswith("cannot move it: ")
    (tmp_path / "loaded").unlink()
    run(settings(), rows)
    assert files_in(tmp_path) == {"loaded/2026-11-27/A.csv": "content"}


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    ("cleanup", "disk"),
    [
        ("move", {}),
        ("move", {"has_links": False}),
        ("move", {"is_other_device": True}),
        ("move", {"is_other_device": True, "has_links": False}),
        ("delete", {}),
    ],
)
def test_a_kill_at_any_step_is_finished_by_the_next_run(tmp_path, cleanup, disk, after):
    stop_at, was_killed = 0, True
    while was_killed:
        stop_at += 1
        folder = tmp_path / str(stop_at)
        folder.mkdir()
        path = folder / "A.csv"
        path.write_text("content")
        rows = {str(path): row_of(path)}
        try:
            run(settings(cleanup), rows, Steps(stop_at, after=after, **disk))
            was_killed = False
        except Killed:
            assert "content" in files_in(folder).values() or cleanup == "delete"
        run(settings(cleanup), rows, Steps(**disk))

        left = {name: content for name, content in files_in(folder).items() if content}
        assert list(left.values()) == ([] if cleanup == "delete" else ["content"]), (stop_at, left)
        assert not path.exists()
        [row] = rows.values()
        assert json.loads(row.cleanup)["done"] in {cleanup, "gone"}
        assert row.path != str(path)
    assert stop_at > 2


def test_a_file_that_grows_while_it_is_copied_is_left_whole(tmp_path):
    path = tmp_path / "A.csv"
    path.write_text("content")

    class Growing(Steps):
        def copy(self, source, to):
            super().copy(source, to)
            source.write_text("content and more")

    rows = {str(path): row_of(path)}
    [cleaned] = run(settings(), rows, Growing(is_other_device=True))

    assert cleaned.problem == "it changed while it was copied"
    assert files_in(tmp_path) == {"A.csv": "content and more"}


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="there is no second file system")
def test_a_file_is_moved_to_another_file_system(tmp_path):
    import tempfile

    with tempfile.TemporaryDirectory(dir="/dev/shm") as other:
        path = tmp_path / "A.csv"
        path.write_text("content")
        os.utime(path, (1000, 1000))
        run(settings(cleanup_dir=Path(other)), {str(path): row_of(path)})

        assert files_in(tmp_path) == {}
        assert files_in(Path(other)) == {"2026-11-27/A.csv": "content"}
        assert Path(other, "2026-11-27", "A.csv").stat().st_mtime == 1000


def test_moved_files_are_not_found_again():
    assert is_moved_away(settings(), "/data/loaded/2026-11-27/A.csv")
    assert not is_moved_away(settings(), "/data/loaded/A.csv")
    assert not is_moved_away(settings(), "/data/2026-11-27/A.csv")
    assert not is_moved_away(settings("leave"), "/data/loaded/2026-11-27/A.csv")
    assert is_moved_away(settings(cleanup_dir=Path("/old")), "/old/2026-11-27/A.csv")
