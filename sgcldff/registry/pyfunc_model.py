"""The model as an MLflow pyfunc; this file is packaged with the weights and runs wherever the model is loaded."""

from typing import Any

import numpy as np
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext
from numpy.typing import NDArray

BATCH_PX = 262_144
"""Pixels in a batch of the network."""


class SmearModel(PythonModel):
    """RGB tiles in; segmentation, type probabilities and saliency out."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load spec and weights; no pickled code is executed."""
        from pathlib import Path

        from sgcldff.models.model import load_model
        from sgcldff.saliency.priors import build

        self.model = load_model(Path(context.artifacts["weights"]).parent)
        self.priors = build(self.model.spec.prior)

    def predict(  # type: ignore[no-untyped-def]  # MLflow would derive a second schema from a hint on `model_input`
        self, context: PythonModelContext, model_input, params: Any = None
    ) -> dict[str, NDArray[np.float32]]:
        """Predict tiles, uint8 (B, H, W, 3) RGB at the model's um/px.

        Returns
        -------
        dict
            `segmentation` float32 (B, 3, H, W), probabilities of background, cytoplasm, nucleus; `cell_type` float32
            (B, C), probabilities of the type of the cell at the tile's centre; `saliency` float32 (B, H, W) in [0, 1],
            where the type was read from.
        """
        tiles = np.ascontiguousarray(model_input, np.uint8)
        if not len(tiles):
            raise ValueError("no tiles were given: pass at least one, uint8 (B, H, W, 3)")
        step = max(1, BATCH_PX // max(1, tiles.shape[1] * tiles.shape[2]))
        outputs = [self._predict_batch(tiles[at : at + step]) for at in range(0, len(tiles), step)]
        return {name: np.concatenate([output[name] for output in outputs]) for name in outputs[0]}

    def _predict_batch(self, tiles: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        output = self.model.predict(tiles, np.stack([self.priors(tile) for tile in tiles]))
        return {"segmentation": output.segmentation, "cell_type": output.cell_type, "saliency": output.evidence}


set_model(SmearModel())
