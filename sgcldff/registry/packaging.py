"""What travels with a registered model: the MLflow package, its requirements, and tags that say what code it is."""

import hashlib
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
from mlflow.models.signature import ModelSignature
from mlflow.pyfunc import save_model
from mlflow.types import Schema, TensorSpec

from sgcldff.core.code import PACKAGE, VERSION
from sgcldff.evaluation.report import METRICS, EvalReport
from sgcldff.models.checkpoint import SPEC_FILE, TRAINED_ON, WEIGHTS_FILE
from sgcldff.models.reference import REFERENCE_FILE

NEEDED = (
    "mlflow",
    "numpy",
    "opencv-python-headless",
    "pillow",
    "safetensors",
    "scikit-image",
    "scipy",
    "segmentation-models-pytorch",
    "timm",
    "torch",
    "torchvision",
)
"""Distributions that a model needs to answer."""
CODE_TAG, CODE_DIGEST_TAG, TRUTH_TAG = "sgcldff.code", "sgcldff.code_digest", "sgcldff.test_images"
SCORE_TAG = "sgcldff.score."


def requirements() -> list[str]:
    """Pin what a model needs at the versions in use, without local parts such as `+cpu`."""
    return [f"{name}=={version(name).split('+')[0]}" for name in NEEDED]


def code_tags() -> dict[str, str]:
    """Say which code this is: its version, and a digest of its files, which tells an edited copy from a release."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(f"{path.relative_to(PACKAGE)}:".encode() + path.read_bytes())
    return {CODE_TAG: VERSION, CODE_DIGEST_TAG: total.hexdigest()[:16]}


def pooled_scores(report: EvalReport | None) -> dict[str, float]:
    """Give the pooled scores by name; empty without a report."""
    found = {name: getattr(report.pooled, name) for name in METRICS} if report else {}
    return {name: interval.value for name, interval in found.items() if interval is not None}


def score_tags(report: EvalReport | None) -> dict[str, str]:
    """Say in tags how good a model is, and on which images."""
    tags = {SCORE_TAG + name: f"{value:.4f}" for name, value in pooled_scores(report).items()}
    return tags | ({TRUTH_TAG: report.truth} if report else {})


def write_package(folder: Path, place: Path, classes: int) -> Path:
    """Write the MLflow model: code, spec and weights, loaded without pickle in a process with the locked packages."""
    tile = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))
    number = np.dtype(np.float32)
    files = {"spec": SPEC_FILE, "weights": WEIGHTS_FILE, "trained_on": TRAINED_ON, "reference": REFERENCE_FILE}
    there = {name: path for name, file in files.items() if (path := folder.absolute() / file).is_file()}
    answers = [
        TensorSpec(number, (-1, 3, -1, -1), "segmentation"),
        TensorSpec(number, (-1, classes), "cell_type"),
        TensorSpec(number, (-1, -1, -1), "saliency"),
    ]
    with warnings.catch_warnings():  # MLflow asks for type hints and examples in place of the signature given
        warnings.simplefilter("ignore", UserWarning)
        save_model(
            path=str(place),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={name: path.as_uri() for name, path in there.items()},
            code_paths=[str(PACKAGE)],
            signature=ModelSignature(Schema([tile]), Schema(answers)),
            pip_requirements=requirements(),
        )
    return place
