"""The MLflow package of a registered model, its requirements, and tags with the code's version and the scores."""

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
from sgcldff.models.checkpoint import CALIBRATION_FILE, CONFUSION_FILE, SPEC_FILE, TRAINED_ON, WEIGHTS_FILE
from sgcldff.models.reference import REFERENCE_FILE

REQUIRED = (
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
"""Distributions that a model needs for predictions."""
CODE_TAG, CODE_DIGEST_TAG, TRUTH_TAG = "sgcldff.code", "sgcldff.code_digest", "sgcldff.test_images"
SCORE_TAG = "sgcldff.score."


def code_tags() -> dict[str, str]:
    """Return the code's version and a digest of its files, which distinguishes an edited copy from a release."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(f"{path.relative_to(PACKAGE)}:".encode() + path.read_bytes())
    return {CODE_TAG: VERSION, CODE_DIGEST_TAG: total.hexdigest()[:16]}


def pooled_scores(report: EvalReport | None) -> dict[str, float]:
    """Return the defined pooled scores by name; empty without a report."""
    scores = {name: getattr(report.pooled, name) for name in METRICS} if report else {}
    return {name: interval.value for name, interval in scores.items() if interval is not None}


def score_tags(report: EvalReport | None) -> dict[str, str]:
    """Return tags with the pooled scores and the digest of the images."""
    tags = {SCORE_TAG + name: f"{value:.4f}" for name, value in pooled_scores(report).items()}
    return tags | ({TRUTH_TAG: report.truth} if report else {})


def write_package(folder: Path, target: Path, classes: int) -> Path:
    """Write the MLflow model: code, spec and weights, loaded without pickle and with the locked packages."""
    tile = TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))
    float32 = np.dtype(np.float32)
    files = {
        "spec": SPEC_FILE,
        "weights": WEIGHTS_FILE,
        "trained_on": TRAINED_ON,
        "reference": REFERENCE_FILE,
        "calibration": CALIBRATION_FILE,
        "confusion": CONFUSION_FILE,
    }
    present = {name: path for name, file in files.items() if (path := folder.absolute() / file).is_file()}
    outputs = [
        TensorSpec(float32, (-1, 3, -1, -1), "segmentation"),
        TensorSpec(float32, (-1, classes), "cell_type"),
        TensorSpec(float32, (-1, -1, -1), "saliency"),
    ]
    with warnings.catch_warnings():  # MLflow suggests type hints and examples instead of an explicit signature
        warnings.simplefilter("ignore", UserWarning)
        save_model(
            path=str(target),
            python_model=str(Path(__file__).with_name("pyfunc_model.py")),
            artifacts={name: path.as_uri() for name, path in present.items()},
            code_paths=[str(PACKAGE)],
            signature=ModelSignature(Schema([tile]), Schema(outputs)),
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIRED],  # without +cpu
        )
    return target
