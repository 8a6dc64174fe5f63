"""Sources of rows. `open_source` picks the kind of source; each kind is one module, which is imported on first use."""

from pushengine.sources.async_batches import IteratorSource
from pushengine.sources.registry import check_paths, open_source

__all__ = ["IteratorSource", "check_paths", "open_source"]
