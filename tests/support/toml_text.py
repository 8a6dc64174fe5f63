"""Values as TOML, for generated config files."""


def toml_of(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return '"' + "".join(_escaped(one) for one in value if not "\ud800" <= one <= "\udfff") + '"'
    if isinstance(value, list):
        return "[" + ", ".join(map(toml_of, value)) + "]"
    if isinstance(value, dict):
        items = {toml_of(key): toml_of(one) for key, one in value.items()}
        return "{" + ", ".join(f"{key} = {one}" for key, one in items.items()) + "}"
    return str(value) if isinstance(value, int | float) else value.isoformat()


def _escaped(one):
    return one if one.isprintable() and one not in '"\\' else f"\\U{ord(one):08x}"
