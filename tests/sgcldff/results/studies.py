"""Made-up validation studies: slides of known shares, read by a model of known bias and counted by two readers."""

from pathlib import Path

import numpy as np
import pandas as pd

from sgcldff.core.labels import FIVE_TYPES
from sgcldff.core.records import Lineage, ModelRef
from sgcldff.counting.differential import from_counts, write_differential
from sgcldff.counting.reference_counts import ReferenceCount
from sgcldff.results.batch import SlideSummary, write_summary
from sgcldff.results.validation.study import Study, StudySpecimen
from sgcldff.slides.patient import Patient

MODEL = ModelRef("sgcldff", "3", "cd" * 8)
LINEAGE = Lineage("ab" * 32, *("sgcldff", "3", "cd" * 8), "ef" * 8, "0.1.0")
ALPHA = np.array([12.0, 0.8, 0.3, 6.0, 1.6])
"""Of the Dirichlet law from which the shares of a slide's five types are drawn."""


def confused(slope: float, moved: float) -> np.ndarray:
    """Return how often a model takes a cell of one type (row) for another (column), (5, 5).

    Neutrophils are read as `moved` + `slope` times their share; what is added or lost are lymphocytes.
    """
    rates = np.eye(5)
    rates[0, 0], rates[0, 3] = slope + moved, 1 - slope - moved
    for other in range(1, 5):
        rates[other] = (1 - moved) * rates[other]
        rates[other, 0] = moved
    return rates


def made_study(slides: int, seed: int, rates: np.ndarray | None = None, cells: int = 1000, readers: int = 200) -> Study:
    """Draw the shares of slides, what the model counts on them, and what two readers do."""
    rng, made = np.random.default_rng(seed), []
    for number in range(slides):
        shares = rng.dirichlet(ALPHA)
        found = drawn(rng, cells, shares if rates is None else shares @ rates)
        counts = (drawn(rng, readers, shares), drawn(rng, readers, shares))
        name = f"slide-{number:03d}"
        reference = ReferenceCount(name, (name,), ("Anna", "Bela"), counts, Patient())
        made.append(StudySpecimen.of(reference, [from_counts(found, FIVE_TYPES)]))
    return Study(MODEL, tuple(made), ())


def drawn(rng: np.random.Generator, cells: int, shares: np.ndarray) -> dict[str, int]:
    """Draw a count of the five types."""
    return dict(zip(FIVE_TYPES, map(int, rng.multinomial(cells, shares)), strict=True))


def write_study(folder: Path, study: Study) -> Path:
    """Write the results of the slides, in `results`, and the counts of the readers; returns the table of counts."""
    rows = []
    for one in study.specimens:
        name, pairs = one.reference.specimen, zip(one.reference.readers, one.reference.counts, strict=True)
        write_result(folder / "results" / name, one.found.counts)
        rows += [{"slide_id": name, "reader": reader, **counts} for reader, counts in pairs]
    pd.DataFrame(rows).to_csv(folder / "counts.csv", index=False)
    return folder / "counts.csv"


def write_result(folder: Path, counts: dict[str, int], model: ModelRef = MODEL) -> None:
    """Write what reading a slide leaves of its differential."""
    folder.mkdir(parents=True, exist_ok=True)
    write_differential(folder / "differential.json", from_counts(counts, FIVE_TYPES), folder.name, LINEAGE)
    write_summary(folder, SlideSummary(folder.name, f"{folder.name}.svs", model=model))
