"""White blood cells in stained smears: found, outlined, classified and counted (SG-CLDFF, arXiv 2510.17278).

The names in `__all__` are the interface for Python; nothing below needs Prefect. Each is loaded when it is first used.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import lazy_loader

from sgcldff.core.code import VERSION

if TYPE_CHECKING:
    from sgcldff.core.settings import InferSpec, StatedMpp
    from sgcldff.data.adapters import Source
    from sgcldff.data.catalog import ingest
    from sgcldff.evaluation.calibration.laboratory import LabCalibration
    from sgcldff.evaluation.evaluate import evaluate
    from sgcldff.models.model import Model
    from sgcldff.results.slide import SlideResult, StartProgress, read_results
    from sgcldff.slides import open_slide
    from sgcldff.slides.patient import Patient

__version__ = VERSION

__getattr__, _, _ = lazy_loader.attach(
    __name__,
    submodules=["models", "promotion"],
    submod_attrs={
        "core.settings": ["InferSpec"],
        "data.adapters": ["Source"],
        "data.catalog": ["ingest"],
        "evaluation.evaluate": ["evaluate"],
        "models.model": ["Model"],
        "results.slide": ["SlideResult", "read_results"],
        "slides": ["open_slide"],
        "slides.patient": ["Patient"],
    },
)

__all__ = [
    "InferSpec",
    "Model",
    "Patient",
    "SlideResult",
    "Source",
    "__version__",
    "calibrate",
    "evaluate",
    "ingest",
    "load_model",
    "open_slide",
    "read_results",
    "read_slide",
]


def __dir__() -> list[str]:
    return __all__


REGISTRY = Path("sgcldff-workspace", "mlflow")
"""Folder of the model registry that the command line uses where none is named."""


def load_model(model: str | Path = "released", *, registry: str | Path = REGISTRY, device: str = "auto") -> "Model":
    """Load a model as a network that takes NumPy arrays.

    Parameters
    ----------
    model
        `released` for the model that ships with the code, a model's folder, or a registered version:
        `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
    registry
        Folder, `sqlite:///PATH` or http(s) address of the MLflow registry; used for registered versions only.
    device
        "auto", "cpu" or "cuda".

    Raises
    ------
    InputError
        If there is no such model, or its files are damaged.
    ServiceError
        If the registry's server does not answer.
    """
    from sgcldff.models.model import load_model as load
    from sgcldff.registry import choose_model

    return load(choose_model(registry, str(model)).folder, device)


def read_slide(
    path: str | Path,
    model: str | Path = "released",
    mpp: "StatedMpp" = None,
    *,
    out: str | Path | None = None,
    settings: "InferSpec | None" = None,
    registry: str | Path = REGISTRY,
    progress: "StartProgress | None" = None,
    patient: "Patient | None" = None,
    reference: str | Path | None = None,
) -> "SlideResult":
    """Find, outline and classify the white blood cells of a slide or photograph, in this process.

    Many slides at once, on several processes or machines, are read with `sgcldff infer`.

    Parameters
    ----------
    path
        File, OME-Zarr folder or URL of one slide; `slide.tif#page=2` names one of several images in a file.
    model, registry
        As for `load_model`.
    mpp
        Pixel size in um; needed where the file does not say it. "auto" measures it by the red cells there.
    out
        Folder below which the results are kept, in a folder named after the slide; a slide that is already there is
        not read twice. None keeps them in a temporary folder for as long as the result is referenced.
    settings
        Tiles, gate, limits and engine; None for the defaults.
    progress
        Called with the number of shards and the work done before; returns a context manager that gives a function,
        which is called with the work of every pass over a shard.
    patient
        White count for absolute counts, age and sex for reference intervals.
    reference
        TOML file of reference intervals, which mark what lies outside.

    Raises
    ------
    InputError
        If the slide, the model or a setting cannot be used; the message names it with the remedy.
    """
    from dataclasses import replace
    from tempfile import TemporaryDirectory

    from sgcldff.core.errors import InputError
    from sgcldff.core.settings import InferSpec
    from sgcldff.counting.reference_intervals import read_reference
    from sgcldff.counting.specimen import specimen_of
    from sgcldff.inference import serially
    from sgcldff.models.reference import require_typicality
    from sgcldff.models.runtimes import load_runtime, resolve
    from sgcldff.registry import choose_model
    from sgcldff.results.batch import require_own_folders
    from sgcldff.results.slide import SlideJob, no_progress, read_slide_job
    from sgcldff.slides import find_slides
    from sgcldff.slides.patient import UNKNOWN_PATIENT

    specimen = specimen_of(patient or UNKNOWN_PATIENT, reference, read_reference(reference) if reference else ())
    slides = find_slides([str(path)], mpp)
    if len(slides) != 1:
        raise InputError(f"{path}: {len(slides)} slides: name one, or read them together with `sgcldff infer`")
    chosen, spec = choose_model(registry, str(model)), settings or InferSpec()
    require_typicality(chosen.folder, spec.min_typicality)
    engine, precision = resolve(spec.engine, spec.precision)
    spec = replace(spec, engine=engine, precision=precision)
    temporary = TemporaryDirectory(prefix="sgcldff-") if out is None else None
    folder = temporary.name if temporary else str(out)
    require_own_folders(slides, folder)
    job = SlideJob(slides[0], str(chosen.folder), chosen.model, folder, spec, specimen=specimen)
    runtime = load_runtime(job.model, engine, precision)
    return replace(read_slide_job(job, serially(runtime), progress or no_progress), _holds=temporary)


def calibrate(
    reviews: str | Path, out: str | Path, model: str | Path = "released", *, registry: str | Path = REGISTRY
) -> "LabCalibration":
    """Fit a model's types to a laboratory's reviewed cells, without training, if cross-validation shows a gain.

    Parameters
    ----------
    reviews
        Folder of reviews, as `sgcldff review read` fills it; at least 10 cells.
    out
        Folder of the calibrated model, for `read_slide` and `load_model`; not created if there is no gain.
    model, registry
        As for `load_model`. For a model that is calibrated already, its original is calibrated.

    Raises
    ------
    InputError
        If the model or the reviews cannot be used, there are too few cells, or `out` contains a model.
    """
    from sgcldff.evaluation.calibration.laboratory import calibrate_for_lab, reviewed_cells
    from sgcldff.models.checkpoint import open_spec
    from sgcldff.registry.default_model import choose_model, original_of

    folder = original_of(registry, choose_model(registry, str(model))).folder
    cells, _ = reviewed_cells(reviews, open_spec(folder).labels)
    return calibrate_for_lab(folder, cells, out)
