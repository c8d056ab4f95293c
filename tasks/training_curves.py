"""The curves of a training: for Prometheus while it runs, as a table for people when it has ended."""

from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.loggers import Logger

from tasks.metrics import EPOCH, LOSS, VALIDATION

Curve = Sequence[tuple[int, float]]
"""(step, value), in the order of the steps."""
TRAIN, VAL, TOTAL = "train/", "val/", "train/loss"


class Gauges(Logger):
    """A Lightning logger that keeps Prometheus' gauges at the figures logged last."""

    @property
    def name(self) -> str:
        """Name the logger."""
        return "prometheus"

    @property
    def version(self) -> str:
        """Give none: gauges have no history."""
        return ""

    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Leave out settings: they are no figures."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Set the gauges of the figures that were logged."""
        for name, value in metrics.items():
            if name == "epoch":
                EPOCH.set(value)
            elif name.startswith(TRAIN):
                LOSS.labels("total" if name == TOTAL else name.removeprefix(TRAIN)).set(value)
            elif name.startswith(VAL):
                VALIDATION.labels(name.removeprefix(VAL)).set(value)


def epochs_table(curves: Mapping[str, Curve]) -> list[dict[str, float | None]]:
    """Give a row an epoch: its last step, the loss logged last, and the figures of the validation split."""
    measures = {name: dict(curve) for name, curve in curves.items() if name.startswith(VAL)}
    steps = sorted({step for known in measures.values() for step in known})
    return [
        {"epoch": number, "step": step, "loss": _last(curves.get(TOTAL, ()), step)}
        | {name.removeprefix(VAL): _rounded(known.get(step)) for name, known in measures.items()}
        for number, step in enumerate(steps)
    ]


def _last(curve: Curve, step: int) -> float | None:
    return _rounded(next((value for at, value in reversed(curve) if at <= step), None))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
