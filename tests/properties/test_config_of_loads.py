"""Whatever a config file with loads holds, it is understood or refused with its keys; and precedence holds for any settings."""

import contextlib
import io
import os
import tomllib
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.toml_text import toml_of

from pushengine import redaction
from pushengine.cli import app
from pushengine.config.expansion import expand
from pushengine.config.load import Flags, load_config
from pushengine.config.loads.models import DefaultsSection, NotifySection, RuleSection, TableSection, TargetSection
from pushengine.config.loads.origins import settings_of_load, settings_of_process
from pushengine.config.loads.reading import load_loads, read_loads
from pushengine.config.loads.resolved import Loads, LoadSettings
from pushengine.errors import ConfigError

CONTRACT = (Path(__file__).parents[1] / "integration" / "loads" / "contract.toml").read_text()
VARIABLES = {"SECRET": "$a${b}$$", "CHAT_WEBHOOK": "https://hooks/x"}
hostile = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)

WORD = st.one_of(
    st.sampled_from(
        [
            "", "~", "~nobody-/x", "/dev/null", "..", "*", "{table}", "{date:%Y", "{", "}", "{}", "{seq}{seq}", "${SECRET}", "${NOWHERE}", "$$",
            "${file:/nowhere}", "${file:.}", "a\0b", "s3://b/k", "x" * 5000, "nan", "1e999", "25:00", "05:00", "26h", "Europe/Berlin", "../x",
            "UPSERT", "upsert", "default", "prod", "http://[", "é", "\x1b[31m", "a.b", "VBAP", "vbap", "STRING(40)",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
VALUES = st.recursive(
    st.one_of(
        st.integers(), st.just(10**400), st.floats(), st.booleans(), WORD, st.datetimes(), st.dates(), st.times()
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORD, inner, max_size=3),
    max_leaves=5,
)
KEYS = sorted(
    {
        name
        for model in (DefaultsSection, RuleSection, TableSection, TargetSection, NotifySection)
        for name in model.model_fields
    }
    | {"sql", "cursor", "lag", "full_every", "nonsense"}
)
PLACES = [
    ("defaults",), ("targets", "prod"), ("targets",), ("load", 0), ("load", 1), ("load", 0, "tables"), ("load", 0, "tables", "VBAP"),
    ("notify", 0), ("state",), ("engine",), ("csv",), ("auth",), ("connection",), (),
]  # fmt: skip


@pytest.fixture(autouse=True)
def place(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("place")
    monkeypatch.chdir(folder)
    for name in [name for name in os.environ if name.startswith(("PUSHENGINE_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(folder / "home"))
    for name, value in VARIABLES.items():
        monkeypatch.setenv(name, value)
    before = set(redaction._secrets)
    yield folder
    redaction._secrets.clear()
    redaction._secrets.update(before)


def understood(content):
    """Read a config file; whatever it holds, this ends with loads that answer for every table, or with an error that names keys."""
    Path("conf.toml").write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "replace"))
    flags = Flags(config=Path("conf.toml"))
    for wants_credentials in (True, False):
        with contextlib.suppress(ConfigError):
            load_config(flags, VARIABLES, wants_credentials=wants_credentials)
        try:
            _, loads = load_loads(flags, VARIABLES, wants_credentials=wants_credentials)
        except ConfigError as error:
            assert error.hint
            assert "Input" not in error.message
            assert len(str(error)) < 500_000
            continue
        assert isinstance(loads, Loads)
        for rule in loads.rules:
            for table in ("VBAP", "vbap", "x", "", *rule.overrides):
                found = rule.settings_for(table)
                assert isinstance(found, LoadSettings)
                assert found.target in loads.targets
                assert settings_of_load(read_loads(flags, VARIABLES), rule.name, table)
        assert settings_of_process(read_loads(flags, VARIABLES), flags, VARIABLES)
    for words in (["config", "check"], ["config", "show"]):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = app.main([*words, "--config", "conf.toml"])
        assert code in (0, 2), err.getvalue()
        assert "bug:" not in err.getvalue()
        assert "$a${b}$$" not in out.getvalue() + err.getvalue()


@hostile
@given(st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(KEYS), VALUES), min_size=1, max_size=4))
@example([((), "load", {"name": "x"})])
@example([((), "load", [1, "x", {}])])
@example([((), "targets", [1])])
@example([(("load", 0), "tables", {"A": {}, "a": {}})])
@example([(("load", 0), "tables", {"A": 1})])
@example([(("load", 0), "columns", {"A": "${SECRET}"})])
@example([(("load", 0), "priority", 10**400)])
@example([(("load", 0), "source", [])])
@example([(("load", 0), "source", "x" * 100_000)])
@example([(("load", 0), "name", "x" * 100_000)])
@example([(("load", 0), "cleanup_dir", "a\0b")])
@example([(("targets", "prod"), "client_secret", "")])
@example([(("targets", "prod"), "client_id", "x" * 100_000)])
def test_any_mutation_of_a_file_that_is_right(changes):
    raw = tomllib.loads(CONTRACT)
    for path, key, value in changes:
        holder = raw
        for part in path:
            try:
                holder = holder.setdefault(part, {}) if isinstance(holder, dict) else holder[part]
            except (IndexError, KeyError, TypeError):
                break
        if isinstance(holder, dict):
            holder[key] = value
    understood("\n".join(f"{toml_of(key)} = {toml_of(value)}" for key, value in raw.items()))


@hostile
@given(st.data())
def test_any_damage_to_the_text_of_a_file_that_is_right(data):
    text = CONTRACT
    for _ in range(data.draw(st.integers(1, 3))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.text(alphabet='[]{}"=.\n #$x1', max_size=6)) + text[end:]
    understood(text)


@hostile
@given(st.binary(max_size=120) | st.text(max_size=120).map(lambda text: text.encode("utf-8", "replace")))
@example(b"[" + b"load." * 20_000 + b"load]\n")
@example(b"[[load]]\n" * 500)
@example(b"[[load]]\nname = 'x'\n[[load.tables]]\n")
@example(b"[load]\nname = 'x'")
@example(b"[targets.default]\nurl = 'x'\n[[load]]\n")
def test_any_content(content):
    understood(content)


# --- Precedence -------------------------------------------------------------------------------------------------------------------------

GIVEN = st.fixed_dictionaries(
    {},
    optional={
        "retries": st.integers(0, 9),
        "priority": st.integers(-9, 9),
        "pick": st.sampled_from(["newest", "all"]),
        "tags": st.lists(st.sampled_from("abc"), max_size=2),
        "select": st.lists(st.sampled_from("XYZ"), min_size=1, max_size=2),
        "min_rows": st.integers(0, 9),
        "max_drop": st.sampled_from([0.25, 0.5, 1.0]),
        "columns": st.dictionaries(st.sampled_from("AB"), st.sampled_from(["STRING", "FLOAT"])),
        "rename": st.dictionaries(st.sampled_from("AB"), st.sampled_from("VW")),
    },
)
BUILT_IN = {"retries": 0, "priority": 0, "pick": "newest", "tags": []}


@hostile
@given(GIVEN, GIVEN, GIVEN)
def test_the_last_place_that_gives_a_setting_wins_and_tables_merge(defaults, rule, table):
    raw = {
        "state": {"dir": "state"},
        "defaults": defaults,
        "load": [{"name": "sap", "source": "/data/{table}.csv", **rule, "tables": {"VBAP": table}}],
    }
    Path("conf.toml").write_text("\n".join(f"{key} = {toml_of(value)}" for key, value in raw.items()))
    reading = read_loads(Flags(config=Path("conf.toml")), {}, wants_credentials=False)
    assert not reading.problems
    (read,) = reading.loads.rules
    for name, places in {"VBAP": (defaults, rule, table), "OTHER": (defaults, rule)}.items():
        found = read.settings_for(name)
        expected = {**BUILT_IN}
        merged = {key: {} for key in ("columns", "rename")}
        for one in places:
            expected.update({key: value for key, value in one.items() if key not in merged})
            for key, value in merged.items():
                value.update(one.get(key, {}))
        for key in ("retries", "priority", "pick"):
            assert getattr(found, key) == expected[key]
        assert list(found.tags) == expected["tags"]
        for key in ("select", "min_rows", "max_drop"):
            assert found.options.get(key) == expected.get(key)
        assert found.options.get("column_types", {}) == merged["columns"]
        assert found.options.get("rename", {}) == merged["rename"]
        shown = {one.key: one for one in settings_of_load(reading, "sap", name)}
        for key in ("retries", "pick"):
            origins = [
                origin
                for origin, one in zip(("[defaults]", "[[load]] sap", "[load.tables.VBAP]"), places, strict=False)
                if key in one
            ]
            assert (shown[key].value, shown[key].origin) == (expected[key], ["built-in", *origins][-1])


# --- Expansion --------------------------------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.one_of(
        st.tuples(st.just("literal"), st.text(alphabet="abc {}%", max_size=5)),
        st.tuples(st.just("dollar"), st.just("$")),
        st.tuples(st.just("variable"), st.text(alphabet="a$${b}", min_size=1, max_size=8)),
    ),
    max_size=5,
)


@hostile
@given(PIECES)
def test_each_reference_is_expanded_once_and_everything_else_is_kept(pieces):
    text, expected, variables = "", "", {}
    for number, (kind, value) in enumerate(pieces):
        expected += value
        if kind == "literal":
            text += value
        elif kind == "dollar":
            text += "$$"
        else:
            variables[f"V{number}"] = value
            text += f"${{V{number}}}"
    found = expand({"load": [{"order_by": text}]}, variables, Path())
    assert not found.problems
    assert found.values["load"][0]["order_by"] == expected


@hostile
@given(st.text(max_size=30).filter(lambda text: "${" not in text and "$$" not in text))
def test_any_other_text_is_kept(text):
    assert expand({"a": text}, {}, Path()).values == {"a": text}
