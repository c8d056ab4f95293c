"""Saliency priors and the Zarr store for them."""
