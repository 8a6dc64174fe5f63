"""The columns of a source beside those of the table: what is sent, under which name, and what the policy refuses."""

import pytest

from pushengine.errors import SchemaError
from pushengine.schema.drift import ColumnMatcher, describe_changes
from pushengine.schema.inference import missing_column
from pushengine.schema.known import KnownColumn, KnownTable
from pushengine.schema.rules import RequestedType, SchemaRules

DELTAS = ["append", "upsert"]


def table(*names):
    return KnownTable("T", tuple(KnownColumn(name, "INTEGER") for name in names))


def match(source, known=None, *, allowed=True, **rules):
    matcher = ColumnMatcher(SchemaRules(**rules), known, "f.csv")
    found = matcher.match(source)
    if allowed:
        matcher.require_allowed(found)
    return found


def sent(found):
    """Return name in the source -> name in the table."""
    return {column.source: column.name for column in found.columns}


def refusal(source, known=None, **rules):
    with pytest.raises(SchemaError) as info:
        match(source, known, **rules)
    assert info.value.source == "f.csv"
    return info.value


# --- Selection


def test_a_new_table_takes_every_column_as_it_is():
    found = match(["a", "B"])
    assert sent(found) == {"a": "a", "B": "B"}
    assert (found.new, found.missing, found.left_out, found.ignored, found.question) == ((), (), (), frozenset(), "")


def test_selected_columns_keep_the_order_of_the_source():
    found = match(["a", "b", "c"], select=("c", "a"))
    assert list(sent(found)) == ["a", "c"]
    assert found.ignored == {"b"}


def test_excluded_columns_are_left_out_of_the_selection():
    found = match(["a", "b", "c"], select=("a", "b"), exclude=("b",))
    assert (list(sent(found)), found.ignored) == (["a"], {"b", "c"})


@pytest.mark.parametrize("name", ["old", "new"])
def test_a_renamed_column_is_selected_and_excluded_under_either_name(name):
    assert sent(match(["old", "b"], rename={"old": "new"}, select=(name,))) == {"old": "new"}
    assert sent(match(["old", "b"], rename={"old": "new"}, exclude=(name,))) == {"b": "b"}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"select": ("x",)}, "selected column x is not a column of the source"),
        ({"exclude": ("x",)}, "excluded column x is not a column of the source"),
        ({"rename": {"x": "y"}}, "renamed column x is not a column of the source"),
        ({"keys": ("x",), "mode": "upsert"}, "key x is not a column of the source"),
        ({"column_types": {"x": RequestedType("FLOAT")}}, "typed column x is not a column of the source"),
        ({"exclude": ("a", "b")}, "no column is left to send"),
    ],
)
def test_a_name_that_no_column_has_is_an_error(rules, message):
    assert refusal(["a", "b"], **rules).message == message


def test_a_misspelled_name_is_answered_with_the_right_one():
    assert refusal(["Amount", "b"], select=("AMOUNT",)).hint == "did you mean Amount?"
    assert refusal(["Amount", "b"], select=("x",)).hint == "columns: Amount, b"


def test_a_column_that_only_the_table_has_may_be_excluded():
    assert sent(match(["a"], table("a", "b"), exclude=("b",))) == {"a": "a"}


def test_patterns_of_types_need_not_match():
    assert sent(match(["a"], column_types={"*_DATE": RequestedType("STRING")})) == {"a": "a"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", " "], "column 2 has no name"),
        (["a", "a"], "column a appears twice"),
        (["a", "A"], "columns a and A differ only in letter case"),
        (["straße", "STRASSE"], "columns straße and STRASSE differ only in letter case"),
        (["_Celonis_Change_Date"], "column _Celonis_Change_Date: the platform adds a column of this name itself"),
        ([], "the source has no columns"),
    ],
)
def test_a_bad_name_is_refused(names, message):
    assert refusal(names).message == message


def test_a_bad_name_that_is_left_out_or_renamed_is_no_problem():
    assert sent(match(["a", "A"], exclude=("A",))) == {"a": "a"}
    assert sent(match(["a", "A"], rename={"A": "b"})) == {"a": "a", "A": "b"}
    assert refusal(["a", "b"], rename={"a": "b"}).message == "column b appears twice"


# --- The table that exists


@pytest.mark.parametrize("mode", DELTAS)
def test_a_delta_takes_the_spelling_of_the_table_in_any_order(mode):
    found = match(["name", "ID"], table("Id", "Name"), mode=mode, keys=("ID",) if mode == "upsert" else ())
    assert sent(found) == {"name": "Name", "ID": "Id"}
    assert found.keys == (("Id",) if mode == "upsert" else ())
    assert (found.new, found.missing) == ((), ())


def test_a_replaced_table_takes_the_spelling_of_the_source():
    found = match(["name", "ID"], table("Id", "Name"))
    assert sent(found) == {"name": "name", "ID": "ID"}
    assert (found.new, found.missing) == ((), ())


@pytest.mark.parametrize("rename", [{"CUSTOMER": "KUNNR"}, {"KUNNR": "CUSTOMER"}])
@pytest.mark.parametrize("mode", ["replace", *DELTAS])
def test_a_rename_is_understood_both_ways_round(rename, mode):
    keys = ("id",) if mode == "upsert" else ()
    found = match(["id", "CUSTOMER"], table("id", "KUNNR"), mode=mode, rename=rename, keys=keys)
    assert sent(found) == {"id": "id", "CUSTOMER": "KUNNR"}
    assert (found.new, found.missing) == ((), ())


def test_a_key_may_be_named_as_in_the_source_or_as_in_the_table():
    for key in ("CUSTOMER", "KUNNR"):
        found = match(["CUSTOMER", "v"], table("KUNNR", "v"), mode="upsert", keys=(key,), rename={"CUSTOMER": "KUNNR"})
        assert found.keys == ("KUNNR",)


def test_one_new_and_one_missing_column_ask_whether_it_was_renamed():
    found = match(["id", "CUSTOMER"], table("id", "KUNNR"))
    assert found.question == "was KUNNR renamed to CUSTOMER? --rename CUSTOMER=KUNNR"
    assert match(["id", "x", "y"], table("id", "KUNNR")).question == ""
    assert match(["id", "x"], table("id", "a", "b")).question == ""
    assert match(["id", "x"], table("id")).question == ""


def test_the_question_is_asked_of_a_column_that_is_left_out_too():
    found = match(["id", "CUSTOMER"], table("id", "KUNNR"), new_columns="ignore")
    assert "--rename CUSTOMER=KUNNR" in found.question


@pytest.mark.parametrize("mode", DELTAS)
def test_a_new_column_in_a_delta_is_refused_unless_the_platform_is_known_to_add_it(mode):
    rules = {"mode": mode, "keys": ("a",) if mode == "upsert" else ()}
    error = refusal(["a", "x"], table("a"), **rules)
    assert error.message.startswith("new in the source, not in table T: x")
    assert "--exclude x" in error.hint
    assert "--new-columns ignore" in error.hint
    assert "verified_new_columns = true" in error.hint
    assert match(["a", "x"], table("a"), verified_new_columns=True, **rules).new == ("x",)
    ignored = match(["a", "x"], table("a"), new_columns="ignore", **rules)
    assert (sent(ignored), ignored.left_out, ignored.ignored) == ({"a": "a"}, ("x",), {"x"})


def test_a_replace_adds_new_columns_unless_the_policy_refuses():
    assert match(["a", "x"], table("a")).new == ("x",)
    error = refusal(["a", "x"], table("a"), new_columns="refuse")
    assert error.message == "new in the source, not in table T: x"
    assert error.hint.endswith("leave out (--exclude x) or ignore (--new-columns ignore), or allow (--new-columns add)")
    assert match(["a", "x"], table("a"), new_columns="ignore").left_out == ("x",)


@pytest.mark.parametrize("is_verified", [False, True])
def test_a_delta_is_told_to_add_columns_only_where_that_helps(is_verified):
    rules = {"mode": "append", "verified_new_columns": is_verified}
    error = refusal(["a", "x"], table("a"), new_columns="refuse", **rules)
    assert ("--new-columns add" in error.hint) is is_verified


@pytest.mark.parametrize("mode", ["replace", *DELTAS])
def test_missing_columns_are_null_unless_the_policy_refuses(mode):
    rules = {"mode": mode, "keys": ("a",) if mode == "upsert" else ()}
    assert [one.name for one in match(["a"], table("a", "b"), **rules).missing] == ["b"]
    error = refusal(["a"], table("a", "b"), missing_columns="refuse", **rules)
    assert error.message == "in table T, not in the source: b"
    assert "--missing-columns null" in error.hint


def test_an_excluded_column_is_dropped_by_a_replace_and_null_in_a_delta():
    assert match(["a", "b"], table("a", "b"), exclude=("b",)).missing == ()
    found = match(["a", "b"], table("a", "b"), mode="append", exclude=("b",))
    assert [one.name for one in found.missing] == ["b"]


def test_the_policy_does_not_apply_to_a_new_table():
    found = match(["a"], None, new_columns="refuse", missing_columns="refuse")
    assert sent(found) == {"a": "a"}


@pytest.mark.parametrize("mode", ["upsert", "delete"])
@pytest.mark.parametrize("rules", [{}, {"new_columns": "ignore"}, {"verified_new_columns": True}])
def test_a_key_that_the_table_lacks_is_refused_whatever_the_policy(mode, rules):
    error = refusal(["a", "k"], table("a"), mode=mode, keys=("k",), **rules)
    assert (error.message, error.hint) == ("key k is not a column of table T", "columns of the table: a")
    assert match(["a", "k"], None, mode=mode, keys=("k",), **rules).keys == ("k",)


def test_a_key_that_the_table_lacks_may_have_been_renamed():
    error = refusal(["a", "k"], table("a", "id"), mode="upsert", keys=("k",))
    assert error.hint == "was id renamed to k? --rename k=id; columns of the table: a, id"


def test_a_key_that_the_source_lacks_is_refused_whatever_the_policy():
    error = refusal(["a"], table("a", "k"), mode="upsert", keys=("k",), missing_columns="null")
    assert error.message == "key k is not a column of the source"


def test_a_delete_sends_only_the_keys_and_has_no_drift():
    found = match(
        ["x", "K", "y"], table("k", "gone"), mode="delete", keys=("K",), new_columns="refuse", missing_columns="refuse"
    )
    assert (sent(found), found.keys) == ({"K": "k"}, ("k",))
    assert (found.new, found.missing, found.ignored) == ((), (), {"x", "y"})


def test_a_source_without_columns_is_an_error_unless_it_may_be_empty():
    rules = {"select": ("a",), "exclude": ("b",), "rename": {"c": "d"}, "column_types": {"a": RequestedType("FLOAT")}}
    found = match([], table("a", "b"), allow_empty=True, **rules)
    assert [one.name for one in found.missing] == ["a"]
    for known in (None, table("a", "b")):
        found = match([], known, mode="upsert", keys=("a",), allow_empty=True, missing_columns="refuse", **rules)
        assert (found.columns, found.missing) == ((), ())
        assert "--allow-empty" in refusal([], known, mode="append").hint
    assert "--allow-empty" in refusal([], table("a")).hint
    assert refusal([], allow_empty=True).hint == "nothing is remembered of the table, so its columns are unknown"


# --- Changes


def changes(source, known, columns=(), **rules):
    found = match(source, known, allowed=False, **rules)
    return describe_changes(found, [*columns, *map(missing_column, found.missing)], known, "replace")


def test_only_differences_are_described():
    from pushengine.schema.columns import Column

    def column(name, kind="INTEGER", length=None):
        return Column(name, kind, None, length)

    known = KnownTable("T", (KnownColumn("a", "INTEGER"), KnownColumn("b", "STRING", 40), KnownColumn("c", "STRING")))
    same = [column("A"), column("b", "STRING", 40), column("c", "STRING", 255)]
    assert changes(["A", "b", "c"], known, same) == ()
    assert changes(["a"], None, [column("a")]) == ()
    other = [column("a", "FLOAT"), column("b", "STRING", 80), column("d")]
    assert changes(["a", "b", "d", "e"], known, other, new_columns="add") == (
        "a INTEGER -> FLOAT",
        "b STRING(40) -> STRING(80)",
        "d INTEGER: new column",
        "c: not in the source, NULL",
    )
    assert changes(["a", "b", "c", "e"], known, same, new_columns="ignore") == ("e: not in the table, left out",)
