"""Rules for tests that infer schemas."""

from pushengine.schema.inference import SchemaInference
from pushengine.schema.rules import RequestedType, SchemaRules


def rules_of(*, overrides=None, keys=(), **rules):
    """Return the rules of a push that requests these types and has these keys; with keys, it is an upsert."""
    return SchemaRules(
        **{"mode": "upsert" if keys else "replace"} | rules,
        keys=tuple(keys),
        column_types={name: RequestedType.parse(text) for name, text in (overrides or {}).items()},
    )


def inference_of(arrow_schema, *, is_text=False, known=None, source="", **rules):
    """Return an inference for a source with these columns; `rules` are those of `rules_of()`."""
    return SchemaInference(
        arrow_schema, is_text=is_text, rules=rules_of(**rules), known=known, source=source, explains=True
    )
