"""Fast inference on slides: one protocol, and engines with equivalent results.

Evaluation uses `sgcldff.models.model.Model`, the reference implementation; a runtime omits outputs that slides do not
need. torch is imported only if it runs the network, to save the memory of processes that plan slides, wait for workers,
or run a network with OpenVINO.
"""

from pathlib import Path

from sgcldff.core.settings import Engine, Precision
from sgcldff.models.checkpoint import open_spec, saved_digest
from sgcldff.models.reference import read_typicality
from sgcldff.models.runtimes.base import Labels, Runtime, Types
from sgcldff.models.runtimes.hardware import caution, resolve

__all__ = ["Labels", "Runtime", "Types", "caution", "load_runtime", "resolve"]


def load_runtime(folder: str | Path, engine: Engine = Engine.AUTO, precision: Precision = Precision.AUTO) -> Runtime:
    """Load a saved model for inference on this machine.

    A runtime stays in the process and the thread that loaded it; every worker loads its own.

    Raises
    ------
    MissingInputError
        If a file is missing.
    InputError
        If the files are damaged (which OpenVINO reports on first use), or the machine does not support the requested
        engine or precision.
    """
    engine, precision = resolve(engine, precision)
    if engine is not Engine.OPENVINO:
        from sgcldff.models.model import load_model
        from sgcldff.models.runtimes.torch_runtime import TorchRuntime

        model = load_model(folder)
        return TorchRuntime(model, precision, read_typicality(folder, model.digest), engine)
    from sgcldff.models.runtimes.openvino_runtime import OpenVinoRuntime

    spec, typicality = open_spec(folder), read_typicality(folder, saved_digest(folder))
    return OpenVinoRuntime(str(folder), spec, precision, typicality)
