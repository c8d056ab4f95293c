"""Training of networks."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from sgcldff.models.training.trainer import TrainingResult, train
else:
    __getattr__, __dir__, _ = lazy_loader.attach(__name__, submod_attrs={"trainer": ["TrainingResult", "train"]})

__all__ = ["TrainingResult", "train"]
