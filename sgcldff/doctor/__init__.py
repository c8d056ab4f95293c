"""Checks of this machine, its packages and the configured servers, with remedies for what they find."""

from sgcldff.doctor.check import Check, State
from sgcldff.doctor.run import Setup, examine

__all__ = ["Check", "Setup", "State", "examine"]
