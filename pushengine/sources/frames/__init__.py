"""Objects of other libraries in memory: checks of their Arrow memory, and pandas."""
