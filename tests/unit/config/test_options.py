"""What the user asks for besides source and target, and the rules that follow."""

import pytest

from pushengine.config.options import LoadOptions, schema_rules
from pushengine.config.settings import EngineSettings
from pushengine.errors import ConfigError
from pushengine.model import Target
from pushengine.schema.rules import RequestedType


def split(**given):
    options, overrides = LoadOptions.split(given)
    assert overrides == {}
    return options


def test_the_settings_of_a_push_are_told_from_its_options():
    given = {"select": ["a"], "drift": "freeze", "max_drop": 0.5, "column_types": None}
    assert LoadOptions.split(given) == (LoadOptions(select=("a",)), {"drift": "freeze", "max_drop": 0.5})


def test_options_survive_the_journal():
    options = split(column_types={"a": "FLOAT"}, rename={"b": "c"}, select=["a", "b"], exclude=["d"], allow_empty=True)
    assert LoadOptions.from_dict(options.to_dict(), options.column_types) == options
    assert LoadOptions.from_dict({"later": 1}, {}) == LoadOptions()
    assert LoadOptions().to_dict() == {}


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"select": "a"}, "select"),
        ({"exclude": "a"}, "exclude"),
        ({"column_types": {"a": "NUMBER"}}, "column_types"),
        ({"default_types": {"a": "NUMBER"}}, "column_types"),
    ],
)
def test_a_bad_option_is_named(options, key):
    with pytest.raises(ConfigError) as info:
        LoadOptions.split(options)
    assert info.value.key == key


def test_the_rules_hold_the_policy_in_effect():
    target = Target("T", mode="upsert", keys=("k",))
    options = split(column_types={"*": "STRING(9)"}, rename={"a": "b"}, select=["a"], exclude=["c"])
    settings = EngineSettings(drift="freeze", new_columns="ignore", min_string_length=40, string_headroom=2)
    rules = schema_rules(target, options, settings)
    assert (rules.mode, rules.keys, rules.column_types) == ("upsert", ("k",), {"*": RequestedType("STRING", 9)})
    assert (rules.rename, rules.select, rules.exclude) == ({"a": "b"}, ("a",), ("c",))
    assert (rules.new_columns, rules.missing_columns, rules.types) == ("ignore", "refuse", "refuse")
    assert (rules.min_string_length, rules.string_headroom) == (40, 2)
