"""How well scores of a model detect cells of types that it was not trained on, as AUROC with its interval.

    python -m benchmarks.quality.foreign --data /data/all_idb2 --foreign blast
    python -m benchmarks.quality.foreign --data /data/pbc --foreign erythroblast,promyelocyte --model FOLDER

Images that the model was trained on are left out. The cells that are not foreign are those of the five types.
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import entropy

from sgcldff.core.labels import BROADER, FIVE_TYPES
from sgcldff.core.settings import EvalSpec
from sgcldff.data.adapters import Source
from sgcldff.data.catalog import ingest
from sgcldff.evaluation.bootstrap import intervals
from sgcldff.evaluation.evaluate import predict
from sgcldff.evaluation.metrics import macro_auroc
from sgcldff.models.checkpoint import TRAINED_ON
from sgcldff.models.model import load_model
from sgcldff.models.reference import read_typicality
from sgcldff.models.released import released_folder
from sgcldff.promotion.leakage import TrainingRecord


def foreign_scores(probabilities, classes, typicality=None):
    """Return scores (N,) that are higher for cells that look more foreign, by name."""
    own = np.isin([BROADER.get(name, name) for name in classes], FIVE_TYPES)
    scores = {
        "unsure": 1 - probabilities.max(axis=1),
        "entropy": np.asarray(entropy(probabilities, axis=1)),
        "least usual": 1 - probabilities[:, own].max(axis=1),
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
    with tempfile.TemporaryDirectory() as scratch:
        sources = (found for place in given.data for found in Source("auto", place).resolved())
        samples = ingest(sources, scratch).samples
    labels = {one.id: one.label for one in samples if one.label}
    usual = {name for name in labels.values() if BROADER.get(name, name) in (*FIVE_TYPES, "non-blast")}
    chosen = [replace(one, label=None) for one in samples if labels.get(one.id) in usual | foreign]
    record = TrainingRecord.read(folder / TRAINED_ON)
    trained_on = record.images if record else frozenset()
    typicality = read_typicality(folder, model.digest)
    predictions, _ = predict(model, chosen, None, trained_on, explained=False, typicality=typicality)
    marked = np.array([labels[name] in foreign for name in predictions.column("id")])
    print(f"{marked.sum()} foreign of {len(marked)} cells")
    typical = predictions.numbers("typicality") if typicality else None
    for name, score in foreign_scores(predictions.probabilities, predictions.classes, typical).items():
        reduction = macro_auroc(score[:, None], marked[:, None], ~marked[:, None])
        print(f"{name}: {intervals(reduction, predictions.groups, EvalSpec())[0]}")


if __name__ == "__main__":
    main()
