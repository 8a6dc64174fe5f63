"""File references as sources and uploads use them."""

from pathlib import Path

from pushengine.model import FileRef


def file_ref(path):
    """Return a reference to a file, which may not exist."""
    return FileRef(str(path), Path(path).stat().st_size if Path(path).exists() else 0, (0, 0, 0, 0))
