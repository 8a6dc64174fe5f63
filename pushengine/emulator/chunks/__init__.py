"""Uploaded files: receiving and validating them."""
