"""Data sources, readers of tables and photographs, validation splits, random streams."""
