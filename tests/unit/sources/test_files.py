"""Words that name sources."""

from pathlib import Path

import pytest

from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError
from pushengine.push.plan import plan_source
from pushengine.runtime.files import LocalFileSystem
from pushengine.sources import check_words, open_source


@pytest.mark.parametrize("spec", ["", [""], ["a.csv", ""], ("", "a.csv"), [Path("a.csv"), ""]], ids=repr)
def test_an_empty_word_names_no_source(spec):
    """`Path("")` is "." to everybody; the empty text would become that too."""
    with pytest.raises(ConfigError, match=r"empty.*unset") as caught:
        check_words(spec)
    assert caught.value.key == "source"
    with pytest.raises(ConfigError, match="empty"):
        open_source(spec, settings=EngineSettings(), filesystem=LocalFileSystem())


@pytest.mark.parametrize(
    "spec", ["a.csv", " ", [], ["a.csv", "b.csv"], Path(), b"", 0, None, {"": 1}, [1, 2]], ids=repr
)
def test_whatever_else_it_is_others_judge(spec):
    check_words(spec)


async def test_a_plan_of_nothing_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("N\n1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="empty"):
        await plan_source("", table="T")
