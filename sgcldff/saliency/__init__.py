"""Saliency priors and the Zarr store that holds them."""
