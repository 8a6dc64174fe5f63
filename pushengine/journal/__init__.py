"""The journal: an append-only SQLite record of every push of this host."""
