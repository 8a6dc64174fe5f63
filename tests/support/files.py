"""Files as sources and uploads know them."""

from pathlib import Path

from pushengine.model import FileRef


def file_ref(path):
    """A file that may not be there."""
    return FileRef(str(path), Path(path).stat().st_size if Path(path).exists() else 0, (0, 0, 0, 0))
