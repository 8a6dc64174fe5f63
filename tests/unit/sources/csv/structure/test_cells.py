"""What the text of a cell looks like."""

import pytest

from pushengine.sources.csv.structure.cells import are_numbered_names, kind_of, kind_of_column, looks_like_row


@pytest.mark.parametrize(
    ("cell", "kind"),
    [
        ("1", "number"),
        (" -1,234.56 ", "number"),
        ("1.234,56-", "number"),
        ("(12)", "number"),
        ("12 %", "number"),
        ("$5", "number"),
        ("1.5e-03", "number"),
        (".5", "number"),
        ("2024-01-31", "date"),
        ("31.01.2024", "date"),
        ("1/31/24", "date"),
        ("2024-01-31T10:00:00Z", "date"),
        ("2024-01", "date"),
        ("12:30", "time"),
        ("12:30:15.5", "time"),
        ("TRUE", "truth"),
        ("123e4567-e89b-12d3-a456-426614174000", "id"),
        ("https://example.com/a?b=1", "address"),
        ("ada@example.com", "address"),
        ("Bolt", "text"),
        ("M8", "text"),
        ("##0", "text"),
        ("1st", "text"),
        ("2024-01.31", "text"),
        ("ID:1", "text"),
        ("", ""),
        ("N/A", ""),
        (r"\N", ""),
        ("-", ""),
    ],
)
def test_what_a_cell_looks_like(cell, kind):
    assert kind_of(cell) == kind


@pytest.mark.parametrize(
    ("cells", "kind"),
    [(["1", "NA", "2.5"], "number"), (["1", "x"], "text"), (["1", "2024-01-31"], "text"), (["", "NULL"], ""), ([], "")],
)
def test_what_a_column_looks_like(cells, kind):
    assert kind_of_column(cells) == kind


@pytest.mark.parametrize(
    ("values", "rows", "are_names"),
    [
        (["2008", "2009"], [("10", "20")], True),
        (["2008", "2009"], [("2010", "2011")], False),
        (["2008"], [("10",)], True),
        (["0", "1", "2"], [("1", "2", "3"), ("2", "3", "4")], True),
        (["1", "2"], [("9", "8")], False),
        (["10", "50", "90"], [("4", "3", "2")], True),
        (["16.5", "17.5", "18.5"], [("4", "3", "2")], True),
        (["10", "50", "90"], [("20", "60", "95"), ("1", "2", "3")], False),
        (["90", "50", "10"], [("4", "3", "2")], False),
        (["10", "10", "20"], [("4", "3", "2")], False),
        (["00010", "00020", "00030"], [("4", "3", "2")], False),
        (["10", "x", "20"], [("4", "3", "2")], False),
    ],
)
def test_ascending_numbers_are_names_unless_the_rows_ascend_too(values, rows, are_names):
    assert are_numbered_names(values, rows) is are_names


def test_a_row_has_a_value():
    assert looks_like_row(["Bolt", "1", "2024-01-31"])
    assert not looks_like_row(["NAME", "2008", "2009"])
    assert not looks_like_row(["NAME", "QTY", ""])
