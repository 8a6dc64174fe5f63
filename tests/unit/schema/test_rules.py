"""Types by hand: how they are written; a name wins over a pattern, a longer pattern over a shorter."""

import unicodedata

import pytest

from pushengine.config.csv_settings import CsvSettings
from pushengine.schema.rules import MAX_LENGTH, RequestedType, SchemaRules, is_pattern


@pytest.mark.parametrize(
    ("text", "kind", "length", "shown"),
    [
        ("FLOAT", "FLOAT", None, "FLOAT"),
        (" datetime ", "DATETIME", None, "DATETIME"),
        ("STRING", "STRING", None, "STRING"),
        ("string(40)", "STRING", 40, "STRING(40)"),
        (f"STRING({MAX_LENGTH})", "STRING", MAX_LENGTH, f"STRING({MAX_LENGTH})"),
        ("STRING(0040)", "STRING", 40, "STRING(40)"),
    ],
)
def test_a_type_is_parsed(text, kind, length, shown):
    assert RequestedType.parse(text) == RequestedType(kind, length)
    assert str(RequestedType.parse(text)) == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no such type ''"),
        ("NUMBER", "no such type 'NUMBER'"),
        ("VARCHAR(40)", "no such type"),
        ("STRING 40", "no such type"),
        ("STRING(-1)", "no such type"),
        ("STRING()", "no such type"),
        ("STRING(4", "no such type"),
        ("FLOAT(10)", "only STRING has a length"),
        ("STRING(0)", f"between 1 and {MAX_LENGTH}"),
        (f"STRING({MAX_LENGTH + 1})", f"between 1 and {MAX_LENGTH}"),
        (f"STRING({'9' * 5000})", f"between 1 and {MAX_LENGTH}"),
    ],
)
def test_another_text_is_refused_with_a_reason(text, message):
    with pytest.raises(ValueError) as info:
        RequestedType.parse(text)
    assert message in str(info.value)


def requested(types, *names):
    rules = SchemaRules(column_types={name: RequestedType.parse(text) for name, text in types.items()})
    return rules.requested_type(*names)


@pytest.mark.parametrize(
    ("types", "name", "expected"),
    [
        ({}, "A", None),
        ({"A": "FLOAT"}, "A", "FLOAT"),
        ({"A": "FLOAT"}, "a", None),
        ({"*": "STRING"}, "anything", "STRING"),
        ({"*": "STRING", "A": "FLOAT"}, "A", "FLOAT"),
        ({"A": "FLOAT", "*": "STRING"}, "B", "STRING"),
        ({"*": "STRING", "*_DATE": "DATETIME"}, "X_DATE", "DATETIME"),
        ({"*_DATE": "DATETIME", "*": "STRING"}, "X_DATE", "DATETIME"),
        ({"AMOUNT_?": "FLOAT"}, "AMOUNT_1", "FLOAT"),
        ({"AMOUNT_?": "FLOAT"}, "AMOUNT_12", None),
        ({"AMOUNT_*": "FLOAT"}, "amount_1", None),
    ],
)
def test_the_most_specific_name_decides(types, name, expected):
    assert requested(types, name) == (RequestedType.parse(expected) if expected else None)


def test_a_renamed_column_is_meant_by_either_name():
    assert requested({"OLD": "FLOAT"}, "NEW", "OLD") == RequestedType("FLOAT")
    assert requested({"N*": "FLOAT"}, "NEW", "OLD") == RequestedType("FLOAT")


def test_stars_and_question_marks_make_a_pattern():
    assert [is_pattern(name) for name in ("*", "A?", "A", "[A]")] == [True, True, False, False]


def test_every_mode_but_replace_is_a_delta():
    assert [SchemaRules(mode=mode).is_delta for mode in ("replace", "append", "upsert", "delete")] == [
        False,
        True,
        True,
        True,
    ]


def test_rules_take_the_spelling_of_the_source_for_accents_but_not_for_case():
    composed, decomposed = "Größe", unicodedata.normalize("NFD", "Größe")
    kind = RequestedType("STRING")
    rules = SchemaRules(
        mode="upsert",
        keys=(composed, "id"),
        order_by=composed,
        column_types={composed: kind, "*": kind},
        default_types={composed: kind},
        rename={composed: "SIZE"},
        select=(composed,),
        exclude=(composed,),
        formats=CsvSettings(date_format=f"{composed}=dd.mm.yyyy").formats(),
    ).spelled_like([decomposed, "ID"])
    assert rules.keys == (decomposed, "id")
    assert rules.order_by == decomposed
    assert rules.column_types == {decomposed: kind, "*": kind}
    assert (rules.default_types, rules.rename) == ({decomposed: kind}, {decomposed: "SIZE"})
    assert (rules.select, rules.exclude) == ((decomposed,), (decomposed,))
    assert list(rules.formats.column_date_formats) == [decomposed]
