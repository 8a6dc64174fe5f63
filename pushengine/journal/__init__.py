"""What this host intended and learned of each push, in SQLite."""
