"""Labelled images: adapters of data sets, the catalog, synthetic smears and reviews."""
