"""The model that ships with the code."""

from sgcldff.core.errors import InputError, MissingInputError
from sgcldff.core.settings import require
from sgcldff.doctor.check import Check, failed, ok, warning
from sgcldff.models.checkpoint import TRAINED_ON
from sgcldff.models.reference import Reference
from sgcldff.models.released import released, released_folder

NAME = "released model"
WHOLE = "install sgcldff again, or restore the folder from the repository"


def released_model() -> Check:
    """See that the released model is there, and that its weights are those that its reference was measured with."""
    try:
        folder = released_folder()
    except MissingInputError as error:
        return warning(NAME, str(error), "name a model with --model, or have a champion, before slides are read")
    try:
        model, _ = released()
        known = Reference.open(folder).model
        require(known == model.digest, f"{folder}: weights {model.digest}, but the reference is of {known}")
        require((folder / TRAINED_ON).is_file(), f"{folder}: holds no {TRAINED_ON}")
    except InputError as error:
        return failed(NAME, str(error), WHOLE)
    return ok(NAME, f"{folder}: {model.name} {model.version} ({model.digest}), whole")
