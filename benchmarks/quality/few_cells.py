"""Accuracy on a stain that a model was not trained on, as it is and once it was calibrated with a few of its cells.

    python -m benchmarks.quality.few_cells --data /data/jtsc --model FOLDER

The cells are drawn by chance, or represent the others, as `sgcldff review make --representative` picks them. Images
that the model was trained on are left out. Scores are of all other cells: mean and 5th to 95th percentile of the draws.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.quality.unseen import unseen_samples
from sgcldff.core.labels import FIVE_TYPES
from sgcldff.evaluation.calibration.adaptation import adapt
from sgcldff.evaluation.calibration.labelled_cells import are_correct
from sgcldff.evaluation.calibration.laboratory import labelled_cells
from sgcldff.models.model import load_model
from sgcldff.models.released import released_folder
from sgcldff.results.review.representatives import CELLS_DRAWN, representatives


def drawn_cells(cells, number, rng):
    """Return the indices of `number` cells drawn by chance."""
    return rng.permutation(len(cells))[:number]


def representative_cells(cells, number, rng):
    """Return the indices of cells that represent as many as the product looks at."""
    pool = rng.permutation(len(cells))[:CELLS_DRAWN]
    return pool[representatives(cells.embedding[pool].astype(np.float32), number)]


def accuracies(cells, own):
    """Return the accuracy of the others before and after a calibration with the cells at `own`."""
    others = cells.take(np.setdiff1d(np.arange(len(cells)), own))
    adapted = adapt(cells.take(own))
    after = adapted.adjustment(others) if adapted.helps else others.logits
    return [are_correct(logits, others.allowed).mean() for logits in (others.logits, after)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--model", type=Path, help="folder; by default the released model")
    parser.add_argument(
        "--five", action="store_true", help="of the five types alone, for a model that learned no others"
    )
    parser.add_argument("--cells", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--draws", type=int, default=12)
    given = parser.parse_args()
    folder = given.model or released_folder()
    model = load_model(folder)
    space = model.spec.labels
    unseen = [one for one in unseen_samples(given.data, folder) if one.label in space.known]
    if given.five:
        broad = (replace(one, label=space.broaden(one.label)) for one in unseen)
        unseen = [one for one in broad if one.label in FIVE_TYPES]
    cells, _ = labelled_cells(model, unseen)
    print(f"{len(cells)} cells, {are_correct(cells.logits, cells.allowed).mean():.3f} right as it is")
    for number in given.cells:
        for pick in (drawn_cells, representative_cells):
            rngs = (np.random.default_rng(draw) for draw in range(given.draws))
            before, after = np.transpose([accuracies(cells, pick(cells, number, rng)) for rng in rngs])
            low, high = np.quantile(after, (0.05, 0.95))
            name = pick.__name__.replace("_", " ")
            print(f"{number} {name}: {before.mean():.3f} to {after.mean():.3f} ({low:.3f} to {high:.3f})")


if __name__ == "__main__":
    main()
