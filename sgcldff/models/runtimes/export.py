"""A network traced by torch and written as a graph of OpenVINO; as a command, in a process of its own.

python -m sgcldff.models.runtimes.export MODEL QUESTION IMAGES HEIGHT WIDTH FILE
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sgcldff.core.errors import InputError
from sgcldff.models.model import load_model
from sgcldff.models.runtimes.graph import Graph, Question
from sgcldff.models.runtimes.heads import Classify, Segment
from sgcldff.models.runtimes.openvino_library import import_openvino

MODULES: dict[Question, type[nn.Module]] = {Question.SEGMENT: Segment, Question.CLASSIFY: Classify}


def export(graph: Graph, place: Path) -> None:
    """Write a graph to `place`, and its weights beside it.

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
    traced = _traced(MODULES[graph.question](model.net), rgb, prior)
    try:
        converted = openvino.convert_model(traced, example_input=(rgb, prior))
    except (RuntimeError, openvino.frontend.OpConversionFailure) as error:
        name = model.spec.net.name
        raise InputError(f"network {name!r} cannot be run by OpenVINO ({error}): give the engine torch") from error
    converted.reshape({0: list(rgb.shape), 1: list(prior.shape)})
    openvino.save_model(converted, place, compress_to_fp16=False)


def _traced(question: nn.Module, rgb: Tensor, prior: Tensor) -> Any:
    def ask(rgb: Tensor, prior: Tensor) -> Any:
        return question(rgb, prior)

    question.eval().requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        return trace(ask, (rgb, prior), check_trace=False)


def main() -> None:
    """Export what the command line names; an error ends it with its message."""
    model, question, *shape, place = sys.argv[1:]
    count, height, width = map(int, shape)
    try:
        export(Graph(model, Question(question), (count, height, width)), Path(place))
    except InputError as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
