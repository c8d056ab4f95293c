"""A model taken out of a registry or a training, to be used or shipped elsewhere."""

from dataclasses import replace
from pathlib import Path
from shutil import copyfile

from sgcldff.core.errors import InputError
from sgcldff.models.checkpoint import TRAINED_ON, WEIGHTS_FILE, saved_digest
from sgcldff.models.model import load_model, save_model
from sgcldff.models.reference import Reference, read_typicality, reference_digest


def export_model(source: str | Path, to: str | Path, *, half: bool = False) -> Path:
    """Write a saved model into a folder of its own, with the record of its images and its reference, where it has them.

    Parameters
    ----------
    half
        As for `save_model`. The reference is then that of the same model before it was rounded: its embeddings differ
        by that rounding only, and it names the new weights.

    Raises
    ------
    MissingInputError
        If a file of the model is missing.
    InputError
        If the model is damaged, does not fit into half precision, or `to` holds a model already.
    """
    origin, place = Path(source), Path(to)
    if (place / WEIGHTS_FILE).exists():
        raise InputError(f"{place}: holds a model already; remove it, or name another folder")
    model = load_model(origin, "cpu")
    read_typicality(origin, model.digest)
    save_model(place, model.spec, model.net, half=half)
    if (origin / TRAINED_ON).is_file():
        copyfile(origin / TRAINED_ON, place / TRAINED_ON)
    if reference_digest(origin):
        replace(Reference.open(origin), model=saved_digest(place)).save(place)
    return place
