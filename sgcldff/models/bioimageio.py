"""Export of a model as a BioImage.IO package (https://bioimage.io), with a test image."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sgcldff.core.atomic import atomic_write
from sgcldff.core.errors import InputError
from sgcldff.core.records import ModelRef
from sgcldff.core.settings import ModelSpec
from sgcldff.core.wording import PURPOSE
from sgcldff.data.synthetic import SmearSpec, render_field
from sgcldff.models.checkpoint import SPEC_FILE
from sgcldff.models.model import load_model
from sgcldff.models.runtimes.export import traced
from sgcldff.saliency.priors import build
from sgcldff.slides.images import sha256_of

STEP_PX, TEST_PX = 32, 192
"""Sides of images are multiples of the former; the test image has the latter."""
ANY_SIZE = {"min": 3 * STEP_PX, "step": STEP_PX}
WEIGHTS = "weights.pt"
PARTS = ("background", "cytoplasm", "nucleus")
TENSORS = {
    "image": "Stained blood smear, RGB; the documentation tells the um per pixel.",
    "prior": "Saliency priors of the image.",
    "segmentation": "Probability of what each pixel is.",
    "cell_type": "Probability of each class of the cell at the centre.",
}
"""Names of inputs and outputs, and what they are."""
SHARE, BYTE = {"type": "float32", "range": [0, 1]}, {"type": "uint8", "range": [0, 255]}
DESCRIPTION = (
    "Outlines nucleus and cytoplasm of white blood cells in stained blood smears, and classifies the cell at the centre"
    f" of an image; {PURPOSE}."
)
DOCUMENTATION = """# {name} {version}

{description}

Inputs are an RGB image at {mpp:g} um per pixel, and its saliency priors ({priors}): maps of where stained cells lie,
from 0 to 1. The package sgcldff computes them: `sgcldff.saliency.priors.build(spec.prior)(image)`, where `spec` is what
`sgcldff.models.checkpoint.read_spec("spec.json")` returns.

Outputs are the probabilities of background, cytoplasm and nucleus of every pixel, and those of the classes of the cell
at the centre: {classes}.

The SHA-256 of the weights begins with {digest}.
"""


class Probabilities(nn.Module):
    """Outputs the probabilities of a pixel's part and of a cell's type."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor, prior: Tensor) -> tuple[Tensor, Tensor]:
        """Map float32 (B, 3, H, W) and (B, P, H, W), both in [0, 1], to float32 (B, 3, H, W) and (B, C)."""
        prediction = self.net(image, prior)
        return prediction.segmentation.softmax(dim=1), prediction.cell_type.softmax(dim=1)


def export_bioimageio(source: str | Path, reference: ModelRef, to: str | Path) -> Path:
    """Write a saved model as a BioImage.IO package: description, TorchScript, and inputs and outputs to test it with.

    The image of the test is synthetic.

    Parameters
    ----------
    reference
        Name and version of the model, which its description repeats.

    Raises
    ------
    MissingInputError
        If a file of the model is missing.
    InputError
        If the model is damaged, or `to` exists.
    """
    target = Path(to)
    if target.exists():
        raise InputError(f"{target}: exists; name a folder that does not")
    model = load_model(source, "cpu")
    field = render_field(SmearSpec(mpp=model.spec.mpp), (TEST_PX, TEST_PX), np.random.default_rng(0))
    image, prior = field.rgb.transpose(2, 0, 1)[None], build(model.spec.prior)(field.rgb)[None]
    net = Probabilities(model.net).eval()
    inputs = (torch.from_numpy(image / np.float32(255)), torch.from_numpy(prior))
    with torch.inference_mode():
        outputs = [output.numpy() for output in net(*inputs)]
    with atomic_write(target) as folder:
        folder.mkdir(parents=True)
        arrays = {"image": image, "prior": prior, "segmentation": outputs[0], "cell_type": outputs[1]}
        for name, values in arrays.items():
            np.save(folder / f"{name}.npy", np.ascontiguousarray(values))
        traced(net, *inputs).save(str(folder / WEIGHTS))
        (folder / SPEC_FILE).write_bytes((Path(source) / SPEC_FILE).read_bytes())
        (folder / "README.md").write_text(_documentation(model.spec, reference), encoding="utf-8")
        described = json.dumps(_describe(model.spec, reference, folder), indent=2)  # YAML, too
        (folder / "rdf.yaml").write_text(described + "\n", encoding="utf-8")
    return target


def _documentation(spec: ModelSpec, reference: ModelRef) -> str:
    return DOCUMENTATION.format(
        name=reference.name,
        version=reference.version,
        description=DESCRIPTION,
        mpp=spec.mpp,
        priors=", ".join(spec.prior.names),
        classes=", ".join(spec.labels.classes),
        digest=reference.digest,
    )


def _describe(spec: ModelSpec, reference: ModelRef, folder: Path) -> Mapping[str, Any]:
    """Describe a package whose other files are written (model description 0.5)."""
    image_sides, same_sides = (_sides(size) for size in (ANY_SIZE, None))
    as_float = {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}  # at the end as well, or readers return to uint8
    to_unit = [as_float, {"id": "scale_linear", "kwargs": {"gain": 1 / 255}}, as_float]
    inputs = [
        {**_tensor("image", ("red", "green", "blue"), image_sides), "data": BYTE, "preprocessing": to_unit},
        _tensor("prior", spec.prior.names, same_sides),
    ]
    outputs = [_tensor("segmentation", PARTS, same_sides), _tensor("cell_type", spec.labels.classes)]
    for tensor in (*inputs, *outputs):
        tensor["test_tensor"] = _file(folder / f"{tensor['id']}.npy")
    weights = {**_file(folder / WEIGHTS), "pytorch_version": torch.__version__.partition("+")[0]}
    return {
        "format_version": "0.5.4",
        "type": "model",
        "name": f"{reference.name} {reference.version}",
        "description": DESCRIPTION,
        "documentation": "README.md",
        "authors": [{"name": "The sgcldff developers"}],
        "tags": ["white-blood-cells", "blood-smear", "semantic-segmentation", "classification", "pytorch", "2d"],
        "inputs": inputs,
        "outputs": outputs,
        "attachments": [_file(folder / SPEC_FILE)],
        "weights": {"torchscript": weights},
    }


def _file(path: Path) -> dict[str, str]:
    return {"source": path.name, "sha256": sha256_of(path)}


def _tensor(name: str, channels: Sequence[str], sides: Sequence[object] = ()) -> dict[str, Any]:
    named = [channel.replace(" ", "_") for channel in channels]
    axes = [{"type": "batch"}, {"type": "channel", "channel_names": named}, *sides]
    return {"id": name, "description": TENSORS[name], "axes": axes, "data": SHARE}


def _sides(size: Mapping[str, int] | None) -> Sequence[object]:
    """Describe height and width, of given sizes or those of the image; without um, which readers would compare."""
    return [{"type": "space", "id": name, "size": size or {"tensor_id": "image", "axis_id": name}} for name in "yx"]
