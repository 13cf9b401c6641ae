"""Errors, exit codes, atomic writes, environment variables, the machine."""
