"""Models under one protocol: what is trained and scored, how scores are compared, and the table and plots of them."""

from sgcldff.benchmark.budget import Budget
from sgcldff.benchmark.protocols import Cell, Plan, Protocol

__all__ = ["Budget", "Cell", "Plan", "Protocol"]
