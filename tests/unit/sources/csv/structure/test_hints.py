"""Ways to continue as flags."""

import shlex

import pytest

from pushengine.sources.csv.structure.hints import Way, flags, hint_of, quoted, working


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"header": False}, "--no-header"),
        ({"header": True}, "--header"),
        ({"trim": False}, "--no-trim"),
        ({"skip_lines": 2, "delimiter": ";"}, "--skip-lines 2 --delimiter ';'"),
        ({"delimiter": ","}, "--delimiter ','"),
        ({"delimiter": "\t"}, r"--delimiter '\t'"),
        ({"delimiter": "\x01"}, r"--delimiter '\x01'"),
        ({"delimiter": "  "}, "--delimiter '  '"),
        ({"quote": "'"}, """--quote "'\""""),
        ({"quote": ""}, "--quote none"),
        ({"escape": "\\"}, r"--escape '\'"),
        ({"comment": "#"}, "--comment '#'"),
        ({"encoding": "cp1252"}, "--encoding cp1252"),
        ({"names": ["ID", "NAME"]}, "--names 'ID,NAME'"),
    ],
)
def test_settings_as_flags(settings, text):
    assert flags(settings) == text
    assert len(shlex.split(text)) == sum(1 if isinstance(value, bool) else 2 for value in settings.values())


def test_a_hint_says_when_a_flag_is_right():
    ways = [Way("if line 1 is a row", {"header": False}), Way("if it is not", {"header": True})]
    assert hint_of(ways) == "if line 1 is a row: --no-header; if it is not: --header"


def test_only_ways_that_work_are_named_and_the_last_resort_only_alone():
    first, second, last = (
        Way("a", {"skip_lines": 1}),
        Way("b", {"skip_lines": 2}),
        Way("c", {"skip_lines": 3}, is_last_resort=True),
    )
    tried = []

    def leads_on(settings):
        tried.append(settings["skip_lines"])
        return settings["skip_lines"] in (2, 3)

    assert working([first, first, second, last], leads_on) == [second]
    assert tried == [1, 2]
    assert working([first, last], leads_on) == [last]
    assert working([second, second, Way("d", {"skip_lines": 3})], leads_on, most=1) == [second]


def test_names_of_files_are_shown_escaped():
    assert quoted("a\x1b[31m") == r"'a\x1b[31m'"
    assert quoted("\t") == "tab"
