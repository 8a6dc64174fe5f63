"""Uploaded files: how they arrive and what makes one valid."""
