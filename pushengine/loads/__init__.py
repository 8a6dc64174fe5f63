"""Runs of loads: which files they load, in which order, and what became of them."""
