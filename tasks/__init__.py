"""Prefect tasks: thin wrappers that take references, call `sgcldff`, and return references."""
