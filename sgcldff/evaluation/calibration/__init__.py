"""Probabilities that can be believed, and a model that fits a laboratory: changes of the layer that names types alone.

Outlines, embeddings and the speed of a network stay as they are; every change is a version with weights of its own.
"""
