"""What lands from files: their sources, the inference of types and the conversion of each row, without a platform."""

import asyncio

from support.inline import inline

from pushengine.config.settings import EngineSettings
from pushengine.pipeline.source_reader import SourceReader
from pushengine.runtime.files import LocalFileSystem
from pushengine.schema.rules import SchemaRules
from pushengine.sources import open_source
from pushengine.sources.threaded import ThreadSource


class _InlineWorkers:
    read = encode = staticmethod(inline)


def source_of(paths, filesystem=None, *, format=None, **settings):  # noqa: A002 - named like the option
    """Return the source over files; `settings` are those of text files."""
    return open_source(
        [str(path) for path in paths],
        format=format,
        settings=EngineSettings(csv=settings),
        filesystem=filesystem or LocalFileSystem(),
    )


def texts_of(source):
    """Return the names of the columns, and all rows as the source holds them."""
    names = source.schema().names
    reader = source.open()
    try:
        rows = [tuple(row.values()) for block in reader for row in block.decode().batch.to_pylist()]
    finally:
        reader.close()
    return names, rows


def landed_from(source, **settings):
    """Return the columns (name -> type) and the rows that a push of the source loads.

    Raises:
        SourceError: The push is refused.
    """
    engine_settings = EngineSettings(csv=settings)
    rules = SchemaRules(formats=engine_settings.csv.formats())
    batches = []

    async def read():
        reader = SourceReader(ThreadSource(source, inline), engine_settings, rules, _InlineWorkers())
        inferred = await reader.infer(None)
        await reader.observe_rows(inferred.schema, lambda batch, *_: batches.append(batch))
        return inferred.schema

    schema = asyncio.run(read())
    columns = {column.name: column.type for column in schema.columns}
    return columns, [tuple(row.values()) for batch in batches for row in batch.to_pylist()]
