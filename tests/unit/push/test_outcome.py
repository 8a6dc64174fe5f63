"""What changed between the schemas of a push."""

import pyarrow as pa

from pushengine.push.outcome import schema_changes
from pushengine.schema.columns import Column, TableSchema

N = Column("N", "INTEGER", pa.int64())
S = Column("S", "STRING", pa.string(), 80)


def test_changed_columns_are_listed_with_both_types():
    now = TableSchema((Column("N", "STRING", pa.string(), 40), S))
    assert schema_changes(TableSchema((N, S)), now) == ("N INTEGER -> STRING(40)",)


def test_columns_are_compared_by_name_because_another_push_may_have_changed_the_table():
    assert schema_changes(TableSchema((N, S)), TableSchema((S, N))) == ()
    assert schema_changes(TableSchema((N,)), TableSchema((S, N))) == ("S STRING(80): new column",)
    assert schema_changes(TableSchema((N, S)), TableSchema((N,))) == ("S: gone",)
