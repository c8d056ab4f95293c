"""The curves of a training: as Prometheus metrics while it runs, and as a table when it has ended."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger

from tasks.metrics import EPOCH, LOSS, VALIDATION

Curve = Sequence[tuple[int, float]]
"""(step, value), in the order of the steps."""
TRAIN, VAL, TOTAL = "train/", "val/", "train/loss"


class Gauges(Logger):
    """A Lightning logger that sets Prometheus gauges to the last values."""

    @property
    def name(self) -> str:
        """Name of the logger."""
        return "prometheus"

    @property
    def version(self) -> str:
        """Empty: gauges have no history."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Ignore settings, which are not metrics."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Set the gauges of the logged metrics."""
        for name, value in metrics.items():
            if name == "epoch":
                EPOCH.set(value)
            elif name.startswith(TRAIN):
                LOSS.labels("total" if name == TOTAL else name.removeprefix(TRAIN)).set(value)
            elif name.startswith(VAL):
                VALIDATION.labels(name.removeprefix(VAL)).set(value)


def epochs_table(curves: Mapping[str, Curve]) -> list[dict[str, float | None]]:
    """Return one row per epoch: its last step, the last logged loss, and the scores on the validation split."""

    def rounded(value: float | None) -> float | None:
        return None if value is None else round(value, 4)

    validation = {name: dict(curve) for name, curve in curves.items() if name.startswith(VAL)}
    losses = list(reversed(curves.get(TOTAL, ())))
    steps = sorted({step for curve in validation.values() for step in curve})
    return [
        {"epoch": number, "step": step, "loss": rounded(next((value for at, value in losses if at <= step), None))}
        | {name.removeprefix(VAL): rounded(curve.get(step)) for name, curve in validation.items()}
        for number, step in enumerate(steps)
    ]
