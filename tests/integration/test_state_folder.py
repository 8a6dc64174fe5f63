"""A state folder to which other users have access."""

from pushengine import events


async def test_an_engine_says_that_it_has_taken_access_from_others(stage, tmp_path):
    state = tmp_path / "loose"
    state.mkdir()
    state.chmod(0o777)
    stage.engine = await stage.open_engine(state_dir=state)
    (event,) = [one for one in stage.sink.events if isinstance(one, events.StateFolderTightened)]
    assert "mode 0777" in event.message
    assert state.stat().st_mode & 0o777 == 0o700
    (tmp_path / "a.csv").write_text("A\n1\n")
    assert (await stage.push(tmp_path / "a.csv")).status == "DONE"
