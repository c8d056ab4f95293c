"""Slides in object stores and at URLs."""
