"""How well scores of a model detect cells of types that it was not trained on, as AUROC with its interval.

    python -m benchmarks.quality.foreign --data /data/all_idb2 --foreign blast
    python -m benchmarks.quality.foreign --data /data/pbc --foreign erythroblast,promyelocyte --model FOLDER

Images that the model was trained on are left out. The cells that are not foreign are those of the five types.
"""

import argparse
from math import dist
from pathlib import Path

import numpy as np
from scipy.stats import entropy

from benchmarks.quality.unseen import unseen_samples
from sgcldff.core.labels import BROADER, FIVE_TYPES, NON_BLAST
from sgcldff.core.settings import EvalSpec
from sgcldff.counting.alerts import blast_likeness
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.metrics import macro_auroc
from sgcldff.evaluation.predict import predict_images
from sgcldff.inference.instances import find_cells
from sgcldff.models.model import load_model
from sgcldff.models.reference import read_typicality
from sgcldff.models.released import released_folder
from sgcldff.models.training.examples import middle, read_scene

IMAGES_AT_ONCE = 16


def predicted(model, samples):
    """Yield the prediction of each image."""
    for at in range(0, len(samples), IMAGES_AT_ONCE):
        batch = samples[at : at + IMAGES_AT_ONCE]
        yield from predict_images(model, [(one, read_scene(one, model.spec.mpp)) for one in batch])


def areas_um2(prediction, mpp):
    """Return the areas of the cell that was classified and of its nucleus; 0 if none was found."""
    if not prediction.found:
        return 0.0, 0.0
    centre, cells = middle(prediction.crop.labels), find_cells(prediction.crop.labels, mpp)
    cell = min(cells, key=lambda one: dist(one.centroid, centre), default=None)
    return (cell.area_px * mpp**2, cell.nucleus_px * mpp**2) if cell else (0.0, 0.0)


def foreign_scores(probabilities, classes, areas, typicality=None):
    """Return scores (N,) that are higher for cells that look more foreign, by name."""
    own = np.isin([BROADER.get(name, name) for name in classes], FIVE_TYPES)
    scores = {
        "unsure": 1 - probabilities.max(axis=1),
        "entropy": np.asarray(entropy(probabilities, axis=1)),
        "least usual": 1 - probabilities[:, own].max(axis=1),
        "large nucleus": blast_likeness(*areas.T),
    }
    if not own.all():
        scores["other classes"] = probabilities[:, ~own].sum(axis=1)
    if typicality is not None:
        scores["atypical"] = 1 - typicality
    return scores


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", action="append", required=True)
    parser.add_argument("--foreign", required=True, help="labels, separated by commas")
    parser.add_argument("--model", type=Path, help="folder; by default the released model")
    given = parser.parse_args()
    folder = given.model or released_folder()
    model, foreign = load_model(folder), set(given.foreign.split(","))
    own, unseen = (*FIVE_TYPES, NON_BLAST), unseen_samples(given.data, folder)
    samples = [one for one in unseen if one.label in foreign or BROADER.get(one.label, one.label) in own]
    found = [
        (one.sample, one.probabilities, areas_um2(one, model.spec.mpp), one.embedding)
        for one in predicted(model, samples)
    ]
    images, probabilities, areas, embeddings = zip(*found, strict=True)
    marked = np.array([one.label in foreign for one in images])
    print(f"{marked.sum()} foreign of {len(marked)} cells")
    typicality = read_typicality(folder, model.digest)
    typical = typicality and typicality(np.stack(embeddings))
    scores = foreign_scores(np.stack(probabilities), model.spec.labels.classes, np.array(areas), typical)
    for name, score in scores.items():
        reduction = macro_auroc(score[:, None], marked[:, None], ~marked[:, None])
        print(f"{name}: {intervals(reduction, [one.group for one in images], EvalSpec())[0]}")


if __name__ == "__main__":
    main()
