"""The command line. It has no behaviour of its own: the library does the work."""
