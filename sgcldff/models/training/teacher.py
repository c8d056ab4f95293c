"""Distillation: a trained model outlines cells in training images whose masks leave pixels open, or that have none."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.label_codes import MAY_BE_CYTOPLASM, MAY_BE_NUCLEUS
from sgcldff.core.settings import ModelSpec
from sgcldff.models.model import Model

RULED_OUT = 0.05
"""Probability below which the teacher rules a class out for a pixel."""
MARGIN_UM = 3.0
"""Distance from a nucleus up to which cytoplasm is never ruled out, as a teacher misses pale cytoplasm of unknown
stains; um."""


class Teacher:
    """Outlines cells for a network to be trained.

    Parameters
    ----------
    model
        The trained model.
    student
        Spec of the network to be trained.

    Raises
    ------
    InputError
        If the model sees images at another scale than the network, or other priors.
    """

    def __init__(self, model: Model, student: ModelSpec) -> None:
        for name, of_teacher, of_student in (
            ("scale", f"{model.spec.mpp} um/px", f"{student.mpp} um/px"),
            ("prior", "+".join(model.spec.prior.names), "+".join(student.prior.names)),
        ):
            if of_teacher != of_student:
                raise InputError(
                    f"the teacher {model.digest} was trained with {name} {of_teacher}, the new model has {of_student}: "
                    "name another teacher, or train with the same"
                )
        self.model = model

    def refine(self, rgb: Rgb, prior: NDArray[np.float32], target: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return a target without the classes that the teacher rules out, unless nothing else is allowed.

        Parameters
        ----------
        rgb
            uint8, (H, W, 3), at the model's scale.
        prior
            float32 in [0, 1], (P, H, W).
        target
            Bits of the allowed classes, uint8 (H, W).

        Returns
        -------
        uint8 (H, W), or None if the teacher finds no nucleus: then it does not know such images.
        """
        (probabilities,) = self.model.predict(np.stack([rgb]), np.stack([prior])).segmentation
        possible = np.packbits(probabilities >= RULED_OUT, axis=0, bitorder="little")[0]
        nucleus = (possible == MAY_BE_NUCLEUS).astype(np.uint8)
        if not nucleus.any():
            return None
        radius = round(MARGIN_UM / self.model.spec.mpp)
        near = cv2.dilate(nucleus, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1)))
        possible[(near > 0) & (nucleus == 0)] |= MAY_BE_CYTOPLASM
        agreed = target & possible
        return np.where(agreed == 0, target, agreed)
