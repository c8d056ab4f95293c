"""Summaries of slides, read and skipped, as batches list them."""

from sgcldff.core.labels import WBC6
from sgcldff.core.records import ModelRef
from sgcldff.counting.differential import from_counts
from sgcldff.results.batch import SlideSummary

MODEL = ModelRef("sgcldff", "3", "cd" * 8)
AREAS = {"monolayer": 0.4, "thick": 0.2, "feathered": 0.1, "out_of_focus": 0.0, "background": 0.3}
USUAL = {"neutrophil": 300, "eosinophil": 12, "basophil": 3, "lymphocyte": 150, "monocyte": 35}


def summary(name="slide", counts=USUAL, excluded=0, **changes):
    found = from_counts(counts, WBC6.classes, excluded=excluded)
    facts = {"found": found, "areas": AREAS, "tiles": 100, "skipped": 1900, "seconds": 12.5, "model": MODEL}
    return SlideSummary(name, f"{name}.svs", **(facts | changes))


def aside(name, reason="cannot be decoded"):
    return SlideSummary(name, f"{name}.svs", reason=reason)
