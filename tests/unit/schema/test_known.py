"""What is known of a table: columns from memory, merged with those that the platform lists."""

import pytest

from pushengine.model import TableColumn, may_be_listed_as
from pushengine.schema.known import KnownColumn, KnownTable

TYPES = ("INTEGER", "FLOAT", "BOOLEAN", "STRING", "DATE", "DATETIME", "TIME")


def known(*columns, **more):
    return KnownTable("T", columns, **more)


def test_a_column_is_found_in_any_letter_case():
    table = known(KnownColumn("Straße", "STRING", 40))
    assert table.by_name() == {"STRASSE".casefold(): table.columns[0]}


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_may_always_be_listed_as_itself(kind):
    assert may_be_listed_as(kind, kind)


def test_dates_and_times_may_be_listed_as_datetime_and_booleans_as_integer():
    pairs = {(kind, listed) for kind in TYPES for listed in TYPES if kind != listed and may_be_listed_as(kind, listed)}
    assert pairs == {("DATE", "DATETIME"), ("TIME", "DATETIME"), ("BOOLEAN", "INTEGER")}


@pytest.mark.parametrize(("kind", "listed"), [("DATE", "DATETIME"), ("TIME", "DATETIME"), ("BOOLEAN", "INTEGER")])
def test_a_remembered_type_is_more_exact_than_the_listed_one(kind, listed):
    column = KnownColumn("a", kind, None, "reading")
    merged = known(column).with_platform_columns([TableColumn("A", listed)])
    assert merged.columns == (KnownColumn("A", kind, None, "reading"),)


def test_a_listed_type_that_contradicts_the_remembered_one_wins_and_so_its_reading_is_forgotten():
    merged = known(KnownColumn("a", "INTEGER", None, "text_integer")).with_platform_columns([TableColumn("a", "FLOAT")])
    assert merged.columns == (KnownColumn("a", "FLOAT"),)


def test_the_listed_length_wins_and_a_missing_one_is_filled_from_memory():
    table = known(KnownColumn("a", "STRING", 80, "text"), KnownColumn("b", "STRING", 80, "text"))
    merged = table.with_platform_columns([TableColumn("a", "STRING", 40), TableColumn("b", "STRING")])
    assert merged.columns == (KnownColumn("a", "STRING", 40, "text"), KnownColumn("b", "STRING", 80, "text"))


def test_the_platform_decides_order_and_spelling_and_may_list_columns_that_nothing_remembers():
    table = known(KnownColumn("a", "INTEGER"), KnownColumn("b", "FLOAT"), keys=("a",), rows=3, doubt="p", version=7)
    merged = table.with_platform_columns([TableColumn("B", "FLOAT"), TableColumn("c", "STRING", 9)])
    assert [column.name for column in merged.columns] == ["B", "c", "a"]
    assert merged.columns[1] == KnownColumn("c", "STRING", 9)
    assert (merged.keys, merged.rows, merged.doubt, merged.version, merged.origin) == (("a",), 3, "p", 7, "platform")


def test_a_table_survives_the_journal():
    table = known(KnownColumn("a", "STRING", 40, "text"), KnownColumn("b", "FLOAT"), keys=("a",), rows=3, version=2)
    raw = table.to_dict()
    assert KnownTable.from_dict(raw) == table
    assert KnownTable.from_dict(raw | {"later": 1}) == table
