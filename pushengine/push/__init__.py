"""One push, from its source to its receipt."""
