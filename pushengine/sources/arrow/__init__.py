"""Sources over Arrow data: objects in memory, streams and files."""
