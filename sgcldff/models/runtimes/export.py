"""Tracing of a network by torch, and its export as an OpenVINO graph; as a command, in a separate process.

python -m sgcldff.models.runtimes.export MODEL TASK IMAGES HEIGHT WIDTH FILE
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.models.model import load_model
from sgcldff.models.runtimes.graph import Graph, NetworkTask
from sgcldff.models.runtimes.heads import Classify, Segment
from sgcldff.models.runtimes.openvino_library import import_openvino

MODULES: dict[NetworkTask, type[nn.Module]] = {NetworkTask.SEGMENT: Segment, NetworkTask.CLASSIFY: Classify}


def export_graph(graph: Graph, target: Path) -> None:
    """Write a graph to `target`, with its weights beside it.

    Raises
    ------
    MissingInputError
        If a file of the model is missing.
    InputError
        If the model is damaged, or OpenVINO cannot run it.
    """
    model, openvino = load_model(graph.model, "cpu"), import_openvino()
    rgb = torch.zeros((*graph.shape, 3), dtype=torch.uint8)
    prior = torch.zeros(graph.shape[0], len(model.spec.prior.names), *graph.shape[1:])
    trace = traced(MODULES[graph.task](model.net), rgb, prior)
    try:
        converted = openvino.convert_model(trace, example_input=(rgb, prior))
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        name = model.spec.net.name
        raise InputError(f"network {name!r} cannot be run by OpenVINO ({error}): use the engine torch") from error
    converted.reshape({0: list(rgb.shape), 1: list(prior.shape)})
    openvino.save_model(converted, target, compress_to_fp16=False)


def traced(module: nn.Module, rgb: Tensor, prior: Tensor) -> Any:
    """Trace a module of two inputs to TorchScript."""

    def run(rgb: Tensor, prior: Tensor) -> Any:
        return module(rgb, prior)

    module.eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        return trace(run, (rgb, prior), check_trace=False)


def main() -> None:
    """Export the graph described by the command line; an error ends the process with its message."""
    model, task, *shape, target = sys.argv[1:]
    count, height, width = map(int, shape)
    try:
        export_graph(Graph(model, NetworkTask(task), (count, height, width)), Path(target))
    except InputError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
