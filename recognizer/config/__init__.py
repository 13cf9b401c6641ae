"""Settings: defaults, checks, overrides, members, schedules."""
