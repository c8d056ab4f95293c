"""Labelled images: adapters for data sets, the catalog, synthetic smears and reviews."""
