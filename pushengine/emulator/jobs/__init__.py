"""Push jobs and their rules; nothing here does I/O."""
