"""The source reader closes every pass that it opened, whatever fails."""

import pytest
from support.chunks import Batches
from support.inline import inline

from pushengine.config.settings import EngineSettings
from pushengine.errors import SourceReadError
from pushengine.pipeline.source_reader import SourceReader
from pushengine.schema.columns import TableSchema
from pushengine.schema.rules import SchemaRules
from pushengine.sources.threaded import ThreadSource


class InlineWorkers:
    read = encode = staticmethod(inline)


class Source:
    label, is_text, is_repeatable, files = "f", False, True, ()

    def __init__(self):
        self.passes = []

    def size_bytes(self):
        raise SourceReadError("gone", source="f")

    def open(self, start_row=0):
        self.passes.append(Batches(10))
        return self.passes[-1]


async def test_an_unavailable_size_leaves_no_pass_open():
    source = Source()
    reader = SourceReader(ThreadSource(source, inline), EngineSettings(), SchemaRules(), InlineWorkers())
    with pytest.raises(SourceReadError, match="gone"):
        async with reader.chunks(0, 0, TableSchema((), ())):
            pass
    assert [one.closed for one in source.passes] == [1] * len(source.passes)
