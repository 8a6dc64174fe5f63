"""The page `settings.md` of the manual, written from the models. `python -m support.settings_page` (in `tests/`) writes it again."""

from pathlib import Path

from pushengine.config.csv_settings import CsvSettings
from pushengine.config.load import AuthSection, ConnectionSection, LogSettings, StateSection
from pushengine.config.loads.models import (
    DefaultsSection,
    LoadKeys,
    NotifySection,
    RuleSection,
    TableSection,
    TargetSection,
)
from pushengine.config.settings import PUSH_SETTINGS, EngineSettings

PAGE = Path(__file__).parents[2] / "pushengine" / "manual" / "settings.md"
VARIABLES = {
    "connection": {name: f"PUSHENGINE_{name.upper()}" for name in ConnectionSection.model_fields},
    "auth": {name: f"PUSHENGINE_{name.upper()}" for name in AuthSection.model_fields if name != "method"},
    "log": {"format": "PUSHENGINE_LOG"},
    "state": {"dir": "PUSHENGINE_STATE_DIR"},
}
HEAD = """# Settings

Every setting, its default and what it means.

pushengine reads the config file that `--config` names, otherwise the one that `PUSHENGINE_CONFIG` names, otherwise `pushengine.toml` in the current folder, otherwise
`config.toml` in the user's config folder (Linux: `~/.config/pushengine`). Flags override environment variables, which override the config file, which
overrides the defaults. Paths are relative to the folder of the config file; `~` is the home folder. `config.example.toml` in the repository shows every key with an
example, and `pushengine config schema` prints a JSON schema for editors.

<!-- not run: it needs a config file -->
```sh
pushengine config show                 # the settings that hold, and where each came from
```

```sh
pushengine config schema > schema.json
```
"""


def default_of(name, field):
    """Return the default of a setting as the page shows it."""
    if field.is_required():
        return "required"
    if field.default_factory is not None:
        return "number of cores, 2 to 8" if name == "encoder_threads" else ""
    value = field.default
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value}`"


def choices_of(schema):
    """Return the words that a setting may have; empty if it is not one of a few words."""
    return next((one["enum"] for one in (schema, *schema.get("anyOf", ())) if "enum" in one), ())


def table_of(model, names, variables=()):
    """Return a Markdown table of settings."""
    properties = model.model_json_schema()["properties"]
    head = ["key", "default", "meaning", *(["environment"] if variables else [])]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in names:
        field = model.model_fields[name]
        meaning = field.description.replace("|", "\\|")
        words = [f"`{word}`" for word in choices_of(properties[name])]
        cells = [f"`{name}`", default_of(name, field), f"{', '.join(words)}: {meaning}" if words else meaning]
        if variables:
            cells.append(f"`{variables[name]}`" if name in variables else "")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def text():
    """Return the page."""
    settings = [name for name in EngineSettings.model_fields if name != "csv"]
    places = ("connection", ConnectionSection), ("auth", AuthSection), ("log", LogSettings), ("state", StateSection)
    parts = [HEAD]
    for name, model in places:
        parts.append(
            f"## [{name}]\n\n{model.__doc__.splitlines()[0]}\n\n{table_of(model, model.model_fields, VARIABLES[name])}\n"
        )
    parts += [
        "## [engine]\n\nLimits, waits, and what may differ between a table and a push. Those marked with * may be set for one push, too: as an"
        " argument of `PushEngine.push`, most as a flag of `push` and `plan`, and in `[defaults]`, `[[load]]` and `[load.tables.X]`.\n\n"
        + _marked(table_of(EngineSettings, settings)),
        f"## [csv]\n\nHow text files are written; all may be set for one push, too (`pushengine help files`).\n\n{table_of(CsvSettings, CsvSettings.model_fields)}\n",
        "## [targets.NAME]\n\nWhere loads go, besides `[connection]` and `[auth]`, which are the target `default`. The keys of both: "
        + ", ".join(f"`{name}`" for name in TargetSection.model_fields)
        + ".\n",
        "## [defaults], [[load]] and [load.tables.TABLE]\n",
        "What is loaded (`pushengine help loads`). A key without a default is as its meaning says, or not used.\n",
        f"{table_of(LoadKeys, LoadKeys.model_fields)}\n",
        f"Only in `[defaults]`:\n\n{table_of(DefaultsSection, _own(DefaultsSection))}\n",
        f"Only in `[[load]]`; exceptions for a table stand in `[load.tables.TABLE]`:\n\n{table_of(RuleSection, _own(RuleSection))}\n",
        f"## [[notify]]\n\n{table_of(NotifySection, NotifySection.model_fields)}\n",
    ]
    return "\n".join(parts)


def _own(model):
    return [name for name in model.model_fields if name not in TableSection.model_fields]


def _marked(table):
    for name in PUSH_SETTINGS:
        table = table.replace(f"| `{name}` |", f"| `{name}` * |")
    return f"{table}\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
