"""Pictures, a run's report, pages of runs, submissions."""
