"""Whether this machine, its packages and the servers that are named can do the work, and what to do where not."""

from sgcldff.doctor.checks import Check, State
from sgcldff.doctor.examining import Setup, examine

__all__ = ["Check", "Setup", "State", "examine"]
