"""The targets of a config file: where its loads go, and with which credentials."""

from __future__ import annotations

from pushengine.config.load import Config, auth_of_file
from pushengine.config.loads.checks import TableReader
from pushengine.config.loads.models import TargetSection
from pushengine.config.loads.resolved import Target
from pushengine.config.problems import Problem
from pushengine.credentials import Credentials
from pushengine.errors import ConfigError
from pushengine.redaction import remember_secrets

DEFAULT = "default"


def read_targets(reader: TableReader, config: Config, *, wants_credentials: bool) -> dict[str, Target]:
    """Return the targets by name. `[connection]` and `[auth]`, and what changes them, are the target `default`."""
    targets = {
        DEFAULT: Target(
            name=DEFAULT,
            url=config.url or "",
            pool_id=config.pool_id or "",
            connection_id=config.connection_id,
            credentials=config.credentials,
        )
    }
    for name in reader.named(("targets",)):
        path = ("targets", name)
        if name == DEFAULT:
            reader.problems.append(Problem(path, "the target default is [connection] and [auth]: write it there"))
            continue
        section = reader.model(TargetSection, path) or TargetSection()
        for key in ("url", "pool_id"):
            if not getattr(section, key) and not any(one.path == (*path, key) for one in reader.problems):
                reader.problems.append(Problem((*path, key), "is required"))
        targets[name] = Target(
            name=name,
            url=section.url or "",
            pool_id=section.pool_id or "",
            connection_id=section.connection_id or None,
            credentials=_credentials(reader, name, section) if wants_credentials else None,
        )
    for target in targets.values():
        if target.credentials is not None:
            remember_secrets(target.credentials.secrets)
    return targets


def _credentials(reader: TableReader, name: str, section: TargetSection) -> Credentials | None:
    path = ("targets", name)
    if any(one.path[:2] == path for one in reader.problems):
        return None
    has_id = bool(section.client_id)
    has_secret = bool(section.client_secret or section.client_secret_file)
    if has_id != has_secret:
        missing, given = ("client_secret", "client_id") if has_id else ("client_id", "client_secret")
        reader.problems.append(Problem((*path, missing), f"is required beside {given}"))
        return None
    try:
        found = auth_of_file(section, reader.read.folder, lambda key: f"targets.{name}.{key}")
    except ConfigError as error:
        reader.problems.append(Problem(path, error.message.replace(f"targets.{name}.", "")))
        return None
    if found is None:
        reader.problems.append(
            Problem(path, "no credentials: it needs client_id and client_secret, or api_key, or app_key")
        )
    return found
