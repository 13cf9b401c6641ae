"""Sources of digits, tables, photographs, splits, random streams."""
