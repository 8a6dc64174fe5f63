"""The location of the state folder."""

from pathlib import Path

import pytest

from pushengine import AppKey, PushEngine
from pushengine.errors import ConfigError
from pushengine.state.folder import default_state_dir, resolve_state_dir


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
