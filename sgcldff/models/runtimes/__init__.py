"""Trained networks made fast for reading slides: one protocol, and engines that answer alike.

`sgcldff.models.model.Model` stays the reference that evaluation asks; a runtime leaves out what a slide does not need.
torch is imported only where it runs the network: who plans slides, waits for workers, or runs a network with OpenVINO
does without its memory.
"""

from pathlib import Path

from sgcldff.core.settings import Engine, Precision
from sgcldff.models.checkpoint import open_spec, saved_digest
from sgcldff.models.reference import read_typicality
from sgcldff.models.runtimes.base import Labels, Runtime, Types

__all__ = ["Labels", "Runtime", "Types", "caution", "load_runtime", "resolve"]


def resolve(engine: Engine = Engine.AUTO, precision: Precision = Precision.AUTO) -> tuple[Engine, Precision]:
    """Replace `AUTO` by what this machine runs fastest; no model is loaded.

    Raises
    ------
    InputError
        If the machine lacks what is asked for.
    """
    from sgcldff.models.runtimes.hardware import fastest

    return fastest(engine, precision)


def caution(engine: Engine, precision: Precision) -> str:
    """Say what makes reading with what `resolve` gave needlessly slow on this machine; empty where nothing does."""
    from sgcldff.models.runtimes.hardware import reading_caution

    return reading_caution(engine, precision)


def load_runtime(folder: str | Path, engine: Engine = Engine.AUTO, precision: Precision = Precision.AUTO) -> Runtime:
    """Load what `save_model` wrote, to be run on this machine.

    A runtime stays in the process and the thread that loaded it; every worker loads its own.

    Raises
    ------
    MissingInputError
        If a file is missing.
    InputError
        If the files are damaged, which OpenVINO tells when it is first asked, or the machine lacks what is asked for.
    """
    chosen, numbers = resolve(engine, precision)
    if chosen is not Engine.OPENVINO:
        from sgcldff.models.model import load_model
        from sgcldff.models.runtimes.torch_runtime import TorchRuntime

        model = load_model(folder)
        return TorchRuntime(model, numbers, read_typicality(folder, model.digest), chosen)
    from sgcldff.models.runtimes.openvino_runtime import OpenVinoRuntime

    spec, typicality = open_spec(folder), read_typicality(folder, saved_digest(folder))
    return OpenVinoRuntime(str(folder), spec, numbers, typicality)
