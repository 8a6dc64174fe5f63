"""Dates, times and timestamps of typed sources: what Arrow does not check."""
