"""The location of the state folder, and who has access to it."""

import os
from pathlib import Path

import pytest

from pushengine import AppKey, PushEngine
from pushengine.cli.exit_codes import exit_code_for
from pushengine.errors import ConfigError
from pushengine.state.folder import StateFolder, default_state_dir, resolve_state_dir

OTHER_USER = 65534
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs permission to change owners")


@pytest.mark.parametrize("given", ["~/state", Path("~/state")], ids=["string", "path"])
def test_a_state_folder_may_be_a_string_or_a_path(given):
    assert resolve_state_dir(given) == Path.home() / "state"


def test_without_a_name_the_default_is_used(monkeypatch):
    monkeypatch.setenv("PUSHENGINE_STATE_DIR", "/srv/state")
    assert resolve_state_dir(None) == default_state_dir() == Path("/srv/state")


def test_an_engine_accepts_its_state_folder_as_a_string(tmp_path):
    engine = PushEngine("http://127.0.0.1:1", pool_id="p", auth=AppKey("k"), state_dir=str(tmp_path))
    assert engine._resources.spool_folder.parent == tmp_path


def test_an_empty_name_is_rejected():
    with pytest.raises(ConfigError, match="state_dir is empty"):
        PushEngine("http://127.0.0.1:1", pool_id="p", auth=AppKey("k"), state_dir=" ")


# --- Access of other users ----------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    made = StateFolder(tmp_path / "state")
    assert made.make() == ()
    return made


def mode_of(path):
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("mode", [0o777, 0o755, 0o750, 0o702, 0o710])
def test_access_of_others_to_the_folder_is_taken_and_noted(folder, mode):
    folder.path.chmod(mode)
    (note,) = folder.make()
    assert note == (
        f"other users had access to the state folder {folder.path} (mode {mode:04o}); now only this user has"
    )
    assert mode_of(folder.path) == 0o700
    assert folder.make() == ()


@pytest.mark.parametrize(("mode", "content"), [(0o1777, ""), (0o777, "theirs"), (0o770, "theirs")])
def test_a_folder_for_other_things_too_keeps_its_mode_and_is_refused_if_others_can_write(tmp_path, mode, content):
    path = tmp_path / "shared"
    path.mkdir()
    if content:
        (path / content).touch()
    path.chmod(mode)
    with pytest.raises(ConfigError, match="not pushengine's own") as caught:
        StateFolder(path).make()
    assert str(path / "pushengine") in caught.value.hint
    assert path.stat().st_mode & 0o7777 == mode
    assert StateFolder(path / "pushengine").make() == ()


def test_a_folder_for_other_things_that_others_can_only_read_stays_as_it_is(tmp_path):
    (tmp_path / "theirs").touch()
    tmp_path.chmod(0o755)
    assert StateFolder(tmp_path).make() == ()
    assert mode_of(tmp_path) == 0o755


@pytest.mark.parametrize(
    "name",
    ["journal.sqlite3", "journal.sqlite3-wal", "quota.sqlite3", "quota.sqlite3-shm", "locks/a.lock", "spool/p.csv"],
)
def test_access_of_others_to_files_is_taken(folder, name):
    path = folder.path / name
    path.parent.mkdir(exist_ok=True, mode=0o777)
    path.touch()
    path.parent.chmod(0o700)
    path.chmod(0o666)
    (note,) = folder.make()
    assert note == f"other users could write 1 file in the state folder {folder.path}; now only this user can"
    assert mode_of(path) == 0o600
    assert folder.make() == ()


def test_a_file_that_others_could_only_read_is_tightened_without_a_note(folder):
    folder.journal.touch(mode=0o644)
    assert folder.make() == ()
    assert mode_of(folder.journal) == 0o600


def test_what_a_link_points_to_keeps_its_mode(folder, tmp_path):
    (tmp_path / "mine").touch()
    (tmp_path / "mine").chmod(0o666)
    folder.locks.mkdir()
    (folder.locks / "a.lock").symlink_to(tmp_path / "mine")
    assert folder.make() == ()
    assert mode_of(tmp_path / "mine") == 0o666


@as_root
@pytest.mark.parametrize("name", ["", "journal.sqlite3", "quota.sqlite3", "locks", "locks/a.lock", "spool/p.csv"])
def test_what_belongs_to_another_user_is_refused(folder, name):
    for one in (folder.locks, folder.spool):
        one.mkdir()
    path = folder.path / name
    if not path.exists():
        path.touch()
    os.chown(path, OTHER_USER, OTHER_USER)
    with pytest.raises(ConfigError, match="belongs to another user") as caught:
        folder.make()
    assert str(path) in caught.value.message
    assert "PUSHENGINE_STATE_DIR" in caught.value.hint
    assert exit_code_for(caught.value) == 2


@as_root
def test_a_link_that_another_user_has_planted_is_refused_and_not_followed(folder, tmp_path):
    (tmp_path / "mine").write_text("content")
    folder.locks.mkdir()
    (folder.locks / "a.lock").symlink_to(tmp_path / "mine")
    os.chown(folder.locks / "a.lock", OTHER_USER, OTHER_USER, follow_symlinks=False)
    with pytest.raises(ConfigError, match="belongs to another user"):
        folder.make()
    assert (tmp_path / "mine").read_text() == "content"
