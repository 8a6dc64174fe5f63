"""Schemas as the journal stores them."""

import pyarrow as pa

from pushengine.schema.columns import Column, TableSchema, dump_schema, load_schema


def test_a_schema_survives_the_journal():
    schema = TableSchema(
        (
            Column("a", "STRING", pa.string(), 40, "text", is_forced=True, fixed_by="table", has_fixed_length=True),
            Column("b", "DATETIME", pa.timestamp("ns"), None, "timestamp", source="B"),
            Column("c", "FLOAT", pa.float64(), None, "float", fixed_by="table", is_missing=True),
        ),
        ("a",),
        frozenset({"d"}),
    )
    assert load_schema(dump_schema(schema)) == schema


def test_the_schema_of_an_older_version_can_be_read_and_is_written_as_it_was():
    older = {"keys": ["a"], "columns": [["a", "STRING", "string", 80, "text", False]]}
    assert dump_schema(load_schema(older)) == older
