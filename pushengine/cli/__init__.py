"""The command line: a thin layer over the library, which does all the work."""
