"""Prefect flows, to be run or deployed, and the command line that runs the same flows."""
