"""The model that ships with the code, used until a laboratory has trained its own."""

from pathlib import Path

from sgcldff.core.code import PACKAGE
from sgcldff.core.errors import MissingInputError
from sgcldff.core.records import ModelRef
from sgcldff.models.checkpoint import SPEC_FILE, saved_digest

RELEASED = "released"
"""The name of the released model; a folder of that name is `./released`."""
RELEASED_NAME, RELEASED_VERSION = "sgcldff_released", "4"
"""Name and version in results. Its folder is named after both, without dots, since a wheel contains it as a package."""
ROOT = PACKAGE.parent
"""The checkout, or the folder in which a wheel was installed."""


def released_folder() -> Path:
    """Return the folder of the released model: below `models/` in a checkout, beside the code in an installation.

    Raises
    ------
    MissingInputError
        If it is in neither.
    """
    name = f"{RELEASED_NAME}_{RELEASED_VERSION}"
    checkout, installed = ROOT / "models" / name, ROOT / name
    for folder in (checkout, installed):
        if (folder / SPEC_FILE).is_file():
            return folder
    raise MissingInputError(
        f"{checkout}: the released model is missing, and it is not in {installed} either; install sgcldff again, or "
        "train and promote a model, or name one with --model"
    )


def released() -> tuple[ModelRef, Path]:
    """Return the released model's name, version and digest, and its folder.

    Raises
    ------
    MissingInputError, InputError
        If it is missing or damaged.
    """
    folder = released_folder()
    return ModelRef(RELEASED_NAME, RELEASED_VERSION, saved_digest(folder)), folder
