"""One table that is loaded night after night."""

import pytest

from pushengine import errors
from pushengine.journal.reader import JournalReader
from pushengine.journal.tables import all_tables


class Nights:
    """Pushes one table again and again."""

    def __init__(self, stage, folder):
        self.stage, self.folder = stage, folder
        self.count = 0

    async def push(self, source, **options):
        """Push text, which becomes a CSV file, or any other source."""
        self.count += 1
        if isinstance(source, str):
            path = self.folder / f"night{self.count}.csv"
            path.write_text(source, encoding="utf-8")
            source = path
        return await self.stage.push(source, **options)

    async def refused(self, source, error=errors.SourceError, **options):
        """Push what must be refused before the submit: the table and the quota are as before."""
        before = await self.contents()
        with pytest.raises(error) as info:
            await self.push(source, **options)
        assert await self.contents() == before
        assert info.value.receipt.submits == 0
        assert not self.stage.jobs("NEW")
        return info.value

    async def contents(self):
        if not await self.stage.query("SELECT 1 FROM duckdb_tables() WHERE table_name = 'T'"):
            return None
        return await self.types(), await self.stage.query('SELECT * FROM "T" ORDER BY ALL'), self.submits()

    def submits(self):
        return len([job for job in self.stage.jobs() if job.status != "NEW"])

    async def types(self):
        found = await self.stage.query(
            "SELECT column_name, coalesce(comment, data_type) FROM duckdb_columns() WHERE table_name = 'T'"
            " AND column_name <> '_CELONIS_CHANGE_DATE' ORDER BY column_index"
        )
        return dict(found)

    async def rows(self, columns="*", order="ALL"):
        return await self.stage.rows(columns=columns, order=order)

    def remembered(self):
        with JournalReader(self.folder / "state" / "journal.sqlite3") as reader:
            return next(iter(all_tables(reader).values()))
