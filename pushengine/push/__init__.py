"""Everything about one push, from its source to its receipt."""
