"""A run's folder: its files, figures, comparison with other runs."""
