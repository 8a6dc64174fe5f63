"""The options that say how text files are written, as a command receives them."""

from collections.abc import Mapping
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from pushengine.cli.commands.text_options import with_text_options
from pushengine.config.csv_settings import CSV_SETTINGS


@pytest.fixture
def run():
    received: list[dict[str, Any]] = []

    @with_text_options
    def command(word: str, *, text: Mapping[str, Any], last: bool = False) -> None:
        received.append({"word": word, "text": dict(text), "last": last})

    app = typer.Typer(rich_markup_mode=None)
    app.command()(command)

    def run(*words):
        result = CliRunner().invoke(app, list(words))
        assert result.exit_code == 0, result.output
        return received.pop()

    return run


def test_only_what_is_given_is_passed_on(run):
    assert run("x", "--last") == {"word": "x", "text": {}, "last": True}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--delimiter", "\\t", "--skip-lines", "2"], {"delimiter": "\\t", "skip_lines": 2}),
        (["--quote", "none"], {"quote": "none"}),
        (["--no-header", "--names", "A,B", "--names", "C"], {"header": False, "names": ("A", "B", "C")}),
        (["--header"], {"header": True}),
        (["--null", "NULL,\\N", "--null", "N/A"], {"null": ("NULL", "\\N", "N/A")}),
        (
            ["--date-format", "dd.mm.yyyy", "--date-format", "A,B=yyyymmdd"],
            {"date_format": ("dd.mm.yyyy", "A,B=yyyymmdd")},
        ),
        (["--trim", "--no-zero-date-null"], {"trim": True, "zero_date_null": False}),
    ],
    ids=" ".join,
)
def test_each_option_is_a_setting(run, words, text):
    assert run("x", *words)["text"] == text
    assert set(text) <= set(CSV_SETTINGS)
