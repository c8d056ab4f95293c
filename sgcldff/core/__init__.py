"""Shared foundations of all other packages: settings, records, geometry, labels, errors and files."""
