"""What the vendor's client reads besides the jobs: the user, its permissions, the pools, and their tables and columns.

Paths, parameters and field names are those of pycelonis 2.20 (`TeamService`, `IntegrationService` and their models). Its tutorials
show a table as it is here: the columns are listed only by their own call.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from aiohttp import web

from pushengine.emulator.jobs.model import BYTES_PER_CHARACTER, ColumnType
from pushengine.emulator.jobs.service import EmulatorService
from pushengine.emulator.refusals import gateway
from pushengine.emulator.tables.catalog import CatalogColumn
from pushengine.emulator.tables.columns import COLUMN_TYPES, TargetColumn

_USER = {
    "id": "emulator-user",
    "email": "emulator@localhost",
    "name": "Emulator",
    "teamId": "emulator",
    "teamName": "Emulator",
    "teamDomain": "emulator",
    "active": True,
    "current": True,
    "language": "en",
    "nameOrEmail": "Emulator",
}
_PERMISSIONS = [{"serviceName": "event-collection", "permissions": ["EDIT_ALL_DATA_POOLS"]}]
_LISTED_AS = {
    ColumnType.DATETIME: ColumnType.DATE,
    ColumnType.TIME: ColumnType.DATE,
    ColumnType.BOOLEAN: ColumnType.INTEGER,
}


class PoolRoutes:
    """The handlers of these calls.

    Args:
        service: Settings and pools of the team.
        read_catalog: Reads the columns of all tables of all pools.
    """

    def __init__(
        self, service: EmulatorService, read_catalog: Callable[[], Awaitable[Sequence[CatalogColumn]]]
    ) -> None:
        self._service = service
        self._read_catalog = read_catalog

    async def user(self, _request: web.Request) -> web.Response:
        """Respond with the user that the credentials belong to."""
        return web.json_response(_USER)

    async def permissions(self, _request: web.Request) -> web.Response:
        """Respond with the permissions of the user."""
        return web.json_response(_PERMISSIONS if self._service.settings.columns_readable else [])

    async def pools(self, _request: web.Request) -> web.Response:
        """Respond with the pools that the caller may see."""
        return web.json_response([_pool(pool_id) for pool_id in self._service.pools.ids])

    async def pool(self, request: web.Request) -> web.Response:
        """Respond with one pool."""
        return web.json_response(_pool(request.match_info["pool_id"]))

    async def tables(self, request: web.Request) -> web.Response:
        """Respond with the tables of a pool, of all data connections."""
        self._require_readable()
        pool_id = request.match_info["pool_id"]
        tables: dict[tuple[str, str], dict[str, Any]] = {}
        for known in await self._read_catalog():
            is_own, connection_id = self._service.pools.connection_of(pool_id, known.schema)
            if is_own:
                tables[known.schema, known.table] = {
                    "name": known.table,
                    "loaderSource": None,
                    "available": False,
                    "dataSourceId": connection_id,
                    "dataSourceName": connection_id,
                    "columns": [],
                    "type": "VIEW" if known.is_view else "TABLE",
                    "schemaName": f"{pool_id}_{connection_id}" if connection_id else pool_id,
                }
        return web.json_response(list(tables.values()))

    async def columns(self, request: web.Request) -> web.Response:
        """Respond with the columns of one table.

        The vendor's client sends the id of the data connection as `schemaName`, and no `schemaName` for the global schema. The list is
        empty if there is no such table: what the platform does then is not published.
        """
        self._require_readable()
        schema = self._service.pools.schema_of(request.match_info["pool_id"], request.query.get("schemaName") or None)
        table = request.query.get("tableName", "")
        listed = [self._column(known.column) for known in await self._read_catalog() if known.is_in(schema, table)]
        return web.json_response(listed)

    def _require_readable(self) -> None:
        if not self._service.settings.columns_readable:
            raise gateway(403, "Forbidden", "No permission to read the tables of this data pool.", "ADMIN_ACCESS_ERROR")

    def _column(self, column: TargetColumn) -> dict[str, Any]:
        """Return a column as the platform lists it: the length in bytes, four for each character that was declared."""
        known = COLUMN_TYPES.get(column.duckdb_type)
        if known is not None and not self._service.settings.lists_exact_types:
            known = _LISTED_AS.get(known, known)
        length = None if column.length is None else column.length * BYTES_PER_CHARACTER
        return {"name": column.name, "length": length, "type": known}


def _pool(pool_id: str) -> dict[str, Any]:
    return {"permissions": [], "id": pool_id, "name": pool_id, "description": None, "locked": False, "tags": []}
