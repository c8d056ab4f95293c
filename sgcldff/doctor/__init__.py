"""Whether this machine, its packages and the servers that are named can do the work, and what to do where not."""

from sgcldff.doctor.check import Check, State
from sgcldff.doctor.run import Setup, examine

__all__ = ["Check", "Setup", "State", "examine"]
