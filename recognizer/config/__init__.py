"""Settings of recipes and runs: defaults, checks, overrides, members, schedules, sweeps."""
