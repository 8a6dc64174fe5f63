"""The tables of the emulated team, in DuckDB."""
