"""Push jobs and their rules; nothing in this package does I/O."""
