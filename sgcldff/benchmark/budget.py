"""The budget of a benchmark: epochs per training, or the total time."""

import re
from dataclasses import dataclass

from sgcldff.core.errors import InputError

EPOCHS = re.compile(r"(?P<epochs>\d{1,6})(?: ?epochs?)?")
TIME = re.compile(r"(?:(?P<d>\d{1,3})d)?(?:(?P<h>\d{1,5})h)?(?:(?P<m>\d{1,6})m(?:in)?)?(?:(?P<s>\d{1,7})s)?")
SECONDS = {"d": 86_400, "h": 3600, "m": 60, "s": 1}


@dataclass(frozen=True)
class Budget:
    """Epochs per training or total time; with a time, the epochs are those of the settings."""

    epochs: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> "Budget":
        """Read `40`, `40epochs`, `2h`, `90m` or `1h30m`; an empty text sets neither.

        Raises
        ------
        InputError
            If it is none of these, or 0.
        """
        plain = text.strip().lower()
        if not plain:
            return cls()
        epochs, duration = EPOCHS.fullmatch(plain), TIME.fullmatch(plain)
        if epochs and int(epochs["epochs"]) > 0:
            return cls(epochs=int(epochs["epochs"]))
        seconds = sum(int(duration[unit] or 0) * length for unit, length in SECONDS.items()) if duration else 0
        if seconds == 0:
            raise InputError(f"budget {text!r}: give epochs per training (40), or the total time (2h, 90m, 1h30m)")
        return cls(seconds=float(seconds))
