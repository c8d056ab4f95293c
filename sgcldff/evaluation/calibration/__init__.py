"""Calibrated probabilities, and adaptation of a model to a laboratory by changing the classification layer only.

Outlines, embeddings and the speed of a network do not change; every change is a version with weights of its own.
"""
