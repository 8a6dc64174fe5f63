"""The state folder: paths, durable SQLite files and locks."""
