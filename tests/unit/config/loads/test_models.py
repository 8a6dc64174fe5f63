"""The example file and the JSON schema show every key of the models, and both accept what the models accept."""

import json
import tomllib
from pathlib import Path

import pytest

from pushengine.config.load import Flags
from pushengine.config.loads.json_schema import config_schema
from pushengine.config.loads.models import (
    LATER_KEYS,
    DefaultsSection,
    LoadKeys,
    NotifySection,
    RuleSection,
    TableSection,
    TargetSection,
)
from pushengine.config.loads.reading import load_loads
from pushengine.config.settings import PUSH_SETTINGS

EXAMPLE = Path(__file__).parents[4] / "config.example.toml"
CONTRACT = Path(__file__).parents[3] / "integration" / "loads" / "contract.toml"


def example_lines():
    """Return the lines of loads in the example, without the `#` in front of tables and keys."""
    lines = EXAMPLE.read_text().partition("# --- Loads")[2].splitlines()[1:]
    return [line[1:] for line in lines if line.startswith("#[") or (line.startswith("#") and line[1:2].isalpha())]


def example():
    return tomllib.loads("\n".join(example_lines()))


def test_the_example_shows_every_key_of_loads():
    raw = example()
    first, second = raw["load"]
    shown = {*raw["defaults"], *first, *second, *first["tables"]["VBAP"]}
    assert set(LoadKeys.model_fields) | {"name", "source", "table", "parallel", "tables"} <= shown
    assert not shown & set(LATER_KEYS)
    assert set(raw["notify"][0]) == set(NotifySection.model_fields)
    assert {"url", "pool_id", "connection_id"} <= set(raw["targets"]["prod"]) <= set(TargetSection.model_fields)


def test_the_example_names_every_setting_of_a_push():
    text = EXAMPLE.read_text()
    for name in PUSH_SETTINGS:
        assert f"\n#{name} = " in text or f"{name}," in text or f"{name}." in text, name


def test_the_example_explains_every_key_on_its_line():
    for line in example_lines():
        if " = " in line and not line.startswith("["):
            assert len(line.partition(" # ")[2]) >= 12, line


def test_the_example_without_its_marks_is_right(tmp_path):
    (tmp_path / "events.columns.toml").write_text('[columns]\nID = "STRING(20)"\n')
    lines = [line for line in example_lines() if not line.startswith(("client_secret", "webhook"))]
    lines = [line + '\napi_key = "secret-key"' if line.startswith("[targets.prod]") else line for line in lines]
    lines = [line for line in lines if not line.startswith("client_id")]
    path = tmp_path / "pushengine.toml"
    path.write_text('[state]\ndir = "state"\n' + "\n".join(lines))
    _, loads = load_loads(Flags(config=path), {})
    sap, events = loads.rules
    assert sap.settings_for("VBAP").keys == ("VBELN", "POSNR")
    assert sap.settings_for("VBAK").cleanup_dir == Path("/data/loaded")
    assert events.settings_for("EVENTS").options["default_types"] == {"ID": "STRING(20)"}
    assert events.settings_for("EVENTS").loads_changed_files
    assert events.settings_for("EVENTS").loads_same_content


def test_every_key_of_the_schema_has_a_description_and_unknown_ones_are_refused():
    schema = config_schema()
    for name, definition in schema["$defs"].items():
        if "properties" not in definition:
            continue
        assert definition["additionalProperties"] is False, name
        for key, value in definition["properties"].items():
            assert value.get("description") or "$ref" in value, (name, key)
    tables = {"DefaultsSection": DefaultsSection, "RuleSection": RuleSection, "TableSection": TableSection}
    for name, model in tables.items():
        assert set(schema["$defs"][name]["properties"]) == set(model.model_fields)


def test_the_schema_is_valid_and_accepts_what_the_models_accept():
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json.dumps(config_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    for text in (CONTRACT.read_text(), "\n".join(example_lines()), ""):
        assert [error.message for error in validator.iter_errors(tomllib.loads(text))] == []
    for text in (
        "[[load]]\nname = 'x'\n",
        "[[load]]\nname = 'x'\nsource = 'y'\nmod = 'replace'\n",
        "[[load]]\nname = 'x'\nsource = 'y'\nmode = 'replce'\n",
        "[defaults]\nmax_age = 'x'\n",
        "[defaults]\nretries = 'x'\n",
        "[targets]\nx = 3\n",
        "[nonsense]\n",
    ):
        assert list(validator.iter_errors(tomllib.loads(text))), text
