"""Chunks of a blocking pass, without threads."""

import asyncio

from pushengine.pipeline.chunking import Chunker
from pushengine.sources.threaded import ThreadStream
from support.inline import inline


def chunker(reader, max_bytes, **options):
    return Chunker(ThreadStream(reader, inline), max_bytes, read=inline, **options)


async def all_chunks(chunks):
    found = []
    while (chunk := await chunks.next_chunk()) is not None:
        found.append(chunk)
    return found


def chunks_of(reader, max_bytes, **options):
    return asyncio.run(all_chunks(chunker(reader, max_bytes, **options)))
