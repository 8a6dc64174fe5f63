"""Paths with placeholders: what they match, what they are refused for, and that what they render matches again."""

import datetime as dt

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pushengine.config.patterns import Match, SourcePattern
from pushengine.runtime.files import LocalFileSystem

DAY = dt.datetime(2026, 11, 27)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        (
            "/d/{table}_{date:%Y%m%d}_*.csv",
            "/d/Z_MY_TABLE_20261127_1.csv",
            Match(table="Z_MY_TABLE", date=DAY, rest=("1",)),
        ),
        ("/d/{table}_*.csv", "/d/Z_MY_TABLE_1.csv", Match(table="Z", rest=("MY_TABLE_1",))),
        ("/d/{table}.csv", "/d/a.b.csv", Match(table="a.b")),
        (
            "/d/{table}_{date:%Y%m%d}.csv",
            "/d/A_20260230_20260301.csv",
            Match(table="A_20260230", date=dt.datetime(2026, 3, 1)),
        ),
        ("/d/{table}_{date}.csv", "/d/A_2026-11-27.csv", Match(table="A", date=DAY)),
        ("/d/{table}_{date}_{seq}.csv", "/d/A_2026-11-27_007.csv", Match(table="A", date=DAY, seq=7, seq_text="007")),
        ("/d/{date:%Y/%m/%d}/{table}/{part}.csv", "/d/2026/11/27/A/b2.csv", Match(table="A", date=DAY, part="b2")),
        ("/d/{date:%Y%j}.csv", "/d/2026331.csv", Match(date=DAY)),
        ("/d/{date:%y%m}.csv", "/d/2611.csv", Match(date=dt.datetime(2026, 11, 1))),
        (
            "/d/x{date:%Y%m%d%H%M%S}*",
            "/d/x20261127235959Z",
            Match(date=dt.datetime(2026, 11, 27, 23, 59, 59), rest=("Z",)),
        ),
        ("/d/*{seq}.csv", "/d/a12b345.csv", Match(seq=345, seq_text="345", rest=("a12b",))),
        ("/d/**/{table}.csv", "/d/a/b/T.csv", Match(table="T", rest=("a/b/",))),
        ("/d/**/{table}.csv", "/d/T.csv", Match(table="T", rest=("",))),
        ("/d/{{x}}_{table}.csv", "/d/{x}_T.csv", Match(table="T")),
        ("/d/T?[12].csv", "/d/Ta2.csv", Match(rest=("a", "2"))),
        ("/d/[!ab].csv", "/d/c.csv", Match(rest=("c",))),
        ("/d/", "/d/c.csv", Match(rest=("c.csv",))),
        ("/d", "/d/c.csv", Match(rest=("c.csv",))),
        ("/d/c.csv", "/d/c.csv", Match(rest=("",))),
    ],
)
def test_a_path_is_matched(pattern, path, expected):
    assert SourcePattern.parse(pattern).match(path) == expected


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("/d/{table}_{date:%Y%m%d}.csv", "/d/A_20260230.csv"),
        ("/d/{table}_{date:%Y%m%d}.csv", "/d/A_2026-11-27.csv"),
        ("/d/{table}_{seq}.csv", "/d/A_x.csv"),
        ("/d/{table}_{part}.csv", "/d/A_x-y.csv"),
        ("/d/{table}.csv", "/d/a/b.csv"),
        ("/d/{table}.csv", "/d/.csv"),
        ("/d/{table}.csv", "/d/.a.csv"),
        ("/d/*.csv", "/d/.a.csv"),
        ("/d/*.csv", "/d/a.CSV"),
        ("/d/*.csv", "/d/a.csv\n"),
        ("/d/[!a].csv", "/d/a.csv"),
        ("/d/**/x.csv", "/d/.hidden/x.csv"),
        ("/d", "/d/e/c.csv"),
    ],
)
def test_a_path_is_not_matched(pattern, path):
    assert SourcePattern.parse(pattern).match(path) is None


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("", "empty"),
        ("/d/{tabel}.csv", "no placeholder {tabel}; known are {table}, {date}, {seq}, {part}"),
        ("/d/{}.csv", "no placeholder {}"),
        ("/d/{table}_{table}.csv", "{table} appears twice"),
        ("/d/{date}_{date:%Y%m%d}.csv", "{date} appears twice"),
        ("/d/{table}{date}.csv", "{table} and {date} stand side by side: put a literal character between them"),
        ("/d/{seq}{part}.csv", "{seq} and {part} stand side by side"),
        ("/d/{table}*.csv", "{table} and * stand side by side"),
        ("/d/*{table}.csv", "* and {table} stand side by side"),
        ("/d/{table.csv", "a single '{': write '{{'"),
        ("/d/table}.csv", "a single '}': write '}}'"),
        ("/d/{{{table}}", "a single"),
        ("/d/{date:%Q}.csv", "no %Q in a date format"),
        ("/d/{date:%Y%}.csv", "no % in a date format"),
        ("/d/{date:%m%d}.csv", "needs a year"),
        ("/d/{date:}.csv", "needs a year"),
        ("/d/{date:%Y%y}.csv", "needs a year"),
        ("/d/{date:%Y%m%Y}.csv", "has a part twice"),
        ("/d/{date:%Y%d}.csv", "has %d without %m"),
        ("/d/{date:%Y%m%d%M}.csv", "has %M without %H"),
        ("/d/{date:%Y%H}.csv", "has %H without %d"),
        ("/d/{date:%Y%j%m}.csv", "has %j, the day of the year, and a month or day"),
        ("/d/{seq:03}.csv", "{seq} takes no format"),
        ("/d/[z-a].csv", "[z-a] is no set of characters"),
    ],
)
def test_what_is_wrong_with_a_pattern_is_said(pattern, reason):
    with pytest.raises(ValueError) as caught:
        SourcePattern.parse(pattern)

    assert reason in str(caught.value)


def test_what_cannot_be_rendered_is_said():
    with pytest.raises(ValueError, match=r"in place of \{seq\}"):
        SourcePattern.parse("{table}_{seq}.ctl").render(table="A", date=DAY)
    with pytest.raises(ValueError, match=r"in place of \*"):
        SourcePattern.parse("{table}_*.ctl").render(table="A", date=DAY)


def test_the_glob_finds_what_matches_even_with_special_characters_in_literals(tmp_path):
    for name in ("a[1]_T.csv", "a1_T.csv", "sub"):
        path = tmp_path / name
        path.mkdir() if name == "sub" else path.write_text("x")
    (tmp_path / "sub" / "a[1]_U.csv").write_text("x")
    pattern = SourcePattern.parse(f"{tmp_path}/**/a[[]1]_{{table}}.csv")

    found = [pattern.match(file.uri) for file in LocalFileSystem().list(pattern.glob)]

    assert [one.table for one in found] == ["T", "U"]


names = st.text("abT_.%[]{}é-1", min_size=1, max_size=8).filter(lambda name: not name.startswith("."))
formats = st.sampled_from(["%Y%m%d", "%Y-%m-%d", "%d.%m.%Y", "%Y%j", "%y%m%d", "%Y/%m/%d", "%Y%m%d%H%M%S", "%Y_%%%m"])


@given(
    literals=st.lists(st.text("_-.x{}[ü", min_size=1, max_size=3), min_size=4, max_size=4),
    kinds=st.permutations(["table", "date", "seq", "part"]).flatmap(
        lambda all_: st.integers(0, 4).map(lambda n: all_[:n])
    ),
    table=names,
    date=st.datetimes(dt.datetime(2000, 1, 1), dt.datetime(2060, 1, 1)),
    date_format=formats,
    seq=st.integers(0, 10**6),
    part=st.text("abZ019", min_size=1, max_size=4),
)
@example(
    literals=["_", "_", "_", "_"],
    kinds=["table", "date"],
    table="Z_MY_T",
    date=DAY,
    date_format="%Y%m%d",
    seq=0,
    part="a",
)
def test_what_a_pattern_renders_it_matches(literals, kinds, table, date, date_format, seq, part):
    text = "/d/"
    for literal, kind in zip(literals, kinds, strict=False):
        quoted = literal.replace("{", "{{").replace("}", "}}").replace("[", "[[]")
        text += f"n{quoted}{{{kind}{':' + date_format if kind == 'date' else ''}}}"
    pattern = SourcePattern.parse(f"{text}n.csv".replace("[[]", "("))
    path = pattern.render(table=table, date=date, seq=seq, part=part)

    match = pattern.match(path)

    assert match is not None
    again = pattern.render(table=match.table, date=match.date, seq=match.seq_text, part=match.part)
    assert again == path  # the path can be split in more than one way; each way renders it
    if kinds == ["table"]:
        assert match.table == table
    if kinds == ["date"]:
        assert match.date.strftime(date_format) == date.strftime(date_format)


@given(st.text("{}dateablsqpr:%Ymd*?[]!-/_.\\", max_size=30))
def test_any_text_is_a_pattern_or_a_reason(text):
    try:
        pattern = SourcePattern.parse(text)
    except ValueError as error:
        assert str(error)
    else:
        pattern.match("/data/VBAP_20261127_1.csv")
