"""What columns are, found out from their values, and how values become them."""
