"""The settings of one push: those of the engine, and what the push overrides."""

import pytest

from pushengine.cli.commands.text_options import TEXT_OPTIONS
from pushengine.config.csv_settings import CSV_SETTINGS
from pushengine.config.settings import PUSH_SETTINGS, EngineSettings
from pushengine.errors import ConfigError


def policies(settings):
    return settings.effective_new_columns, settings.effective_missing_columns, settings.effective_types


EVOLVE, FREEZE = ("add", "null", "widen"), ("refuse", "refuse", "refuse")


def test_drift_sets_every_policy_that_is_not_set_itself():
    assert policies(EngineSettings()) == EVOLVE
    assert policies(EngineSettings(drift="freeze")) == FREEZE
    assert policies(EngineSettings(drift="freeze", new_columns="ignore")) == ("ignore", "refuse", "refuse")
    assert policies(EngineSettings(types="refuse")) == ("add", "null", "refuse")


def test_a_push_without_overrides_has_the_settings_of_the_engine():
    settings = EngineSettings(drift="freeze")
    assert settings.with_overrides({}) is settings


@pytest.mark.parametrize(
    ("engine", "push", "expected"),
    [
        ({}, {"drift": "freeze"}, FREEZE),
        ({"drift": "freeze"}, {"drift": "evolve"}, EVOLVE),
        ({"new_columns": "ignore"}, {"drift": "freeze"}, FREEZE),
        ({"new_columns": "ignore"}, {"types": "refuse"}, ("ignore", "null", "refuse")),
        ({"drift": "freeze"}, {"new_columns": "add"}, ("add", "refuse", "refuse")),
        ({}, {"drift": "freeze", "missing_columns": "null"}, ("refuse", "null", "refuse")),
        ({"types": "refuse"}, {"types": None}, EVOLVE),
    ],
)
def test_the_policy_of_the_push_wins(engine, push, expected):
    assert policies(EngineSettings(**engine).with_overrides(push)) == expected


def test_the_other_settings_stay():
    settings = EngineSettings(chunk_bytes=65536, min_rows=3).with_overrides({"max_drop": 0.5})
    assert (settings.chunk_bytes, settings.min_rows, settings.max_drop) == (65536, 3, 0.5)


@pytest.mark.parametrize(
    ("overrides", "key"),
    [
        ({"max_drop": 1.5}, "max_drop"),
        ({"min_rows": -1}, "min_rows"),
        ({"drift": "adapt"}, "drift"),
        ({"new_columns": "drop"}, "new_columns"),
        ({"min_string_length": 0}, "min_string_length"),
        ({"string_headroom": 0.5}, "string_headroom"),
        ({"new_colums": "add"}, "new_colums"),
        ({"chunk_bytes": 1}, "chunk_bytes"),
    ],
)
def test_a_bad_override_is_named(overrides, key):
    with pytest.raises(ConfigError) as info:
        EngineSettings().with_overrides(overrides)
    assert info.value.key == key


def test_every_setting_of_a_push_is_one_of_the_engine():
    assert set(PUSH_SETTINGS) <= set(EngineSettings.model_fields) | set(CSV_SETTINGS)
    assert set(CSV_SETTINGS) <= set(PUSH_SETTINGS)
    assert tuple(TEXT_OPTIONS) == CSV_SETTINGS


@pytest.mark.parametrize(
    ("value", "limit"),
    [
        (5, 5),
        ("5", 5),
        (0.01, 0.01),
        ("0.01", 0.01),
        ("1%", 0.01),
        (" 2.5 %", 0.025),
        (1.0, 1.0),
        ("100%", 1.0),
        (1, 1),
        ("0", 0),
    ],
)
def test_the_limit_of_rejected_rows_is_a_number_or_a_share(value, limit):
    settings = EngineSettings().with_overrides({"max_rejects": value})
    assert (settings.max_rejects, type(settings.max_rejects)) == (limit, type(limit))
    assert settings.allows_rejects is (limit != 0)
    assert EngineSettings(max_rejects=value) == settings


@pytest.mark.parametrize("value", [-1, 1.01, -0.1, "x", "", "5 rows", "101%", "nan", None])
def test_any_other_limit_of_rejected_rows_is_refused(value):
    with pytest.raises(ConfigError) as caught:
        EngineSettings().with_overrides({"max_rejects": value})
    assert caught.value.key.startswith("max_rejects")


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("90s", 90),
        ("30m", 1800),
        ("2h", 7200),
        ("1d", 86_400),
        ("1.5h", 5400),
        (" 5 m ", 300),
        ("90", 90),
        (90, 90),
        (0, 0),
    ],
)
def test_patience_is_a_duration_or_a_number_of_seconds(value, seconds):
    assert EngineSettings(patience=value).patience == seconds
    assert EngineSettings().with_overrides({"patience": value}).patience == seconds


@pytest.mark.parametrize(
    "value", ["", "x", "-1", -1, "30 min", "1h30m", "1e3", "nan", "inf", float("inf"), True, None, [1], "m"]
)
def test_any_other_patience_is_refused(value):
    with pytest.raises(ConfigError) as caught:
        EngineSettings().with_overrides({"patience": value})
    assert caught.value.key == "patience"
    assert caught.value.message.startswith("patience: input should be")
