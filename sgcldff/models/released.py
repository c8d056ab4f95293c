"""The model that ships with the code: what reads slides before a laboratory has trained a model of its own."""

from pathlib import Path

from sgcldff.core.code import PACKAGE
from sgcldff.core.errors import MissingInputError
from sgcldff.core.records import ModelRef
from sgcldff.models.checkpoint import SPEC_FILE, saved_digest

RELEASED = "released"
"""By this name it is asked for; a folder of that name is `./released`."""
NAME, VERSION = "sgcldff_released", "2"
"""As results name it. Its folder is named after both; in a wheel it is a package (pyproject.toml), so without dots."""
ROOT = PACKAGE.parent
"""The checkout, or the folder into which a wheel was installed."""


def released_folder() -> Path:
    """Return the folder of the released model: below `models/` in a checkout, beside the code in an installation.

    Raises
    ------
    MissingInputError
        If it is in neither.
    """
    name = f"{NAME}_{VERSION}"
    checkout, installed = ROOT / "models" / name, ROOT / name
    for place in (checkout, installed):
        if (place / SPEC_FILE).is_file():
            return place
    raise MissingInputError(
        f"{checkout}: the released model is not there, nor is it in {installed}; install sgcldff again, or train and "
        "promote a model, or name one with --model"
    )


def released() -> tuple[ModelRef, Path]:
    """Return the released model's name, version and digest, and its folder.

    Raises
    ------
    MissingInputError, InputError
        If it is not there, or damaged.
    """
    folder = released_folder()
    return ModelRef(NAME, VERSION, saved_digest(folder)), folder
