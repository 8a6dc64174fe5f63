"""Column types: how they are inferred from values, and how values are converted to them."""
