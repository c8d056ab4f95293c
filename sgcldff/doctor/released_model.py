"""The model that ships with the code."""

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.settings import require
from sgcldff.doctor.check import Check, failed, ok, warning
from sgcldff.models.checkpoint import TRAINED_ON
from sgcldff.models.reference import Reference
from sgcldff.models.released import released, released_folder

NAME = "released model"
REINSTALL = "install sgcldff again, or restore the folder from the repository"


def released_model() -> Check:
    """Check that the released model is complete, and that its reference was measured with its weights."""
    try:
        folder = released_folder()
    except MissingInputError as error:
        return warning(NAME, str(error), "name a model with --model, or promote a champion, before reading slides")
    try:
        model, _ = released()
        measured = Reference.open(folder).model
        require(measured == model.digest, f"{folder}: weights {model.digest}, but the reference is of {measured}")
        require((folder / TRAINED_ON).is_file(), f"{folder}: contains no {TRAINED_ON}")
    except InputError as error:
        return failed(NAME, str(error), REINSTALL)
    return ok(NAME, f"{folder}: {model.name} {model.version} ({model.digest}), complete")
