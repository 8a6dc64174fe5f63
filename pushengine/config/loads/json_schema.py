"""The JSON schema of the config file, for editors."""

from __future__ import annotations

from typing import Any

from pushengine.config.loads.models import LoadsFile


def config_schema() -> dict[str, Any]:
    """Return the schema of a whole config file (JSON Schema 2020-12)."""
    schema = LoadsFile.model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pushengine config file",
        "description": "What pushengine reads from pushengine.toml or config.toml. Texts may contain ${VAR} and ${file:/path}.",
        **{key: value for key, value in schema.items() if key not in ("title", "description")},
    }
