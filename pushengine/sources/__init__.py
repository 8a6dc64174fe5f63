"""Where rows come from. `open_source` finds the kind; each kind is one module, imported when it is needed."""

from pushengine.sources.async_batches import AsyncSource
from pushengine.sources.registry import check_words, open_source

__all__ = ["AsyncSource", "check_words", "open_source"]
