"""A time limit for training, which stops at a checkpoint from which it resumes exactly."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from sgcldff.core.errors import OutOfTimeError


class Deadline(Callback):
    """Writes a checkpoint and stops a training after the first step that ends late.

    It does not stop after the last step of an epoch, which must be validated first. Processes that train together stop
    together. The callback must follow those that change weights after a step.

    Parameters
    ----------
    until
        When time is up, s on `clock`.
    path
        The checkpoint to resume from.
    clock
        Returns monotonic time, s.
    """

    def __init__(self, until: float, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.until = until
        self.path = path
        self.clock = clock

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop if time is up.

        Raises
        ------
        OutOfTimeError
            Once the checkpoint is written.
        """
        late = trainer.strategy.reduce_boolean_decision(self.clock() >= self.until, all=False)
        if late and not trainer.is_last_batch:
            trainer.save_checkpoint(self.path)
            raise OutOfTimeError(
                f"time is up in epoch {trainer.current_epoch + 1} of {trainer.max_epochs}: "
                f"{self.path} is written, and the same command continues from there"
            )
