"""A run's folder: its files, its accuracies, its comparison with other runs."""
