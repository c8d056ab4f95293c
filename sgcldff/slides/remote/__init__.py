"""Slides in object stores and behind URLs."""
