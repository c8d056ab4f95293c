"""The groups of commands."""
