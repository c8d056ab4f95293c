"""What every other part may use: settings, records, geometry, labels, errors and files."""
