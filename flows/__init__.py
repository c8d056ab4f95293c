"""Prefect flows that a person runs or deploys, and the command line that runs the same flows."""
