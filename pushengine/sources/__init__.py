"""Where rows come from. `open_source` finds the kind; each kind is one module, imported when it is needed."""

from pushengine.sources.base import AsyncSource, open_source

__all__ = ["AsyncSource", "open_source"]
