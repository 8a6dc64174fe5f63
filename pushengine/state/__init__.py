"""The state folder: its paths, durable SQLite files and file locks."""
