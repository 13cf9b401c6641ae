"""Many nets at once."""
