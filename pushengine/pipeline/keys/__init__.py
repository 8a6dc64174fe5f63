"""Finds rows with equal keys in one push: hashes of keys, sorted runs of them on disk, and the search in the source."""
