"""The pools of a team: which ones exist, and the DuckDB schema in which each keeps the tables of each data connection."""

from pushengine.emulator.settings import EmulatorSettings

GLOBAL_SCHEMA = "main"


class Pools:
    """The pools that are configured or were seen.

    The tables of the first pool that gets a job are in the schema of their connection id, or in `main` without one. Those
    of any other pool are in the schema of the pool id, followed by the connection id if there is one. Until a pool gets a
    job, every pool is taken as the first.
    """

    def __init__(self, settings: EmulatorSettings) -> None:
        self._settings = settings
        self._seen: dict[str, None] = {}

    @property
    def _main_pool_id(self) -> str | None:
        return next(iter(self._seen), None)

    @property
    def ids(self) -> list[str]:
        """Ids of the pools that a caller can list: the configured ones, or those that got a job if every pool id exists."""
        known = sorted(self._settings.pool_ids) if self._settings.pool_ids is not None else list(self._seen)
        return [pool_id for pool_id in known if pool_id not in self._settings.forbidden_pool_ids]

    def see(self, pool_id: str) -> None:
        """Record that the pool gets a job."""
        self._seen[pool_id] = None

    def schema_of(self, pool_id: str, connection_id: str | None) -> str:
        """Return the DuckDB schema for the tables of a connection, or of no connection."""
        if self._main_pool_id in {None, pool_id}:
            return connection_id or GLOBAL_SCHEMA
        return f"{pool_id}_{connection_id}" if connection_id else pool_id

    def connection_of(self, pool_id: str, schema: str) -> tuple[bool, str | None]:
        """Return whether a DuckDB schema is one of the pool's, and its connection id or None."""
        folded = schema.casefold()
        others = [*self._seen, *(self._settings.pool_ids or ())]
        if self._main_pool_id in {None, pool_id}:
            is_foreign = any(_is_of(other, folded) for other in others if other != pool_id)
            return not is_foreign, None if folded == GLOBAL_SCHEMA else schema
        if folded == pool_id.casefold():
            return True, None
        return _is_of(pool_id, folded), schema[len(pool_id) + 1 :]


def _is_of(pool_id: str, folded_schema: str) -> bool:
    return folded_schema == pool_id.casefold() or folded_schema.startswith(f"{pool_id.casefold()}_")
