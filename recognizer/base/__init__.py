"""Errors and exit codes, atomic writes, environment variables, the machine."""
