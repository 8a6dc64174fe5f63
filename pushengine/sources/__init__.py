"""Where rows come from. `open_source` finds the kind; each kind is one module, imported when it is needed."""

from pushengine.sources.async_batches import IteratorSource
from pushengine.sources.registry import check_words, open_source

__all__ = ["IteratorSource", "check_words", "open_source"]
