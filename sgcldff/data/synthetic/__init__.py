"""Synthetic smears and slides with ground truth, for the demo and tests: plausible in shape, texture and stain."""

from sgcldff.data.synthetic.datasets import write_dataset
from sgcldff.data.synthetic.fields import SmearField, TrueCell, render_field
from sgcldff.data.synthetic.slides import SlideTruth, write_slide
from sgcldff.data.synthetic.stain import SmearSpec, random_smear

__all__ = [
    "SlideTruth",
    "SmearField",
    "SmearSpec",
    "TrueCell",
    "random_smear",
    "render_field",
    "write_dataset",
    "write_slide",
]
