"""A trained network with its spec: saved without pickle, loaded, and asked with NumPy arrays."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from sgcldff.core.arrays import Rgb
from sgcldff.core.errors import InputError
from sgcldff.core.settings import STRIDE, ModelSpec, Pretrained
from sgcldff.models.checkpoint import SPEC_FILE, WEIGHTS_FILE, open_spec, spec_to_dict, tensors_digest
from sgcldff.models.nets import build
from sgcldff.models.nets.base import Network


@dataclass(frozen=True)
class Output:
    """Answers for a batch of B images of H x W px."""

    segmentation: NDArray[np.float32]
    """Probabilities of background, cytoplasm, nucleus; (B, 3, H, W), sums to 1 over axis 1."""
    cell_type: NDArray[np.float32]
    """Probabilities of the type of the cell at the centre; (B, C), sums to 1."""
    evidence: NDArray[np.float32]
    """Where the type was read from; (B, H, W) in [0, 1]."""
    embedding: NDArray[np.float32]
    """What the type was told from; (B, D)."""


@dataclass(frozen=True)
class Model:
    """A network ready to answer; not to be trained further through this handle."""

    spec: ModelSpec
    net: nn.Module
    device: torch.device

    @cached_property
    def digest(self) -> str:
        """sha256 of names and bytes of the weights, 16 hexadecimal digits."""
        return weights_digest(self.net)

    @property
    def embedding_width(self) -> int:
        """D of `Output.embedding`."""
        return cast(Network, self.net).embedding_width

    @torch.inference_mode()
    def predict(self, rgb: Rgb, prior: NDArray[np.float32]) -> Output:
        """Answer for a batch.

        Parameters
        ----------
        rgb
            uint8, (B, H, W, 3), at `spec.mpp` um/px; any H and W.
        prior
            float32, (B, P, H, W) in [0, 1].
        """
        height, width = rgb.shape[1:3]
        image = torch.from_numpy(np.ascontiguousarray(rgb)).permute(0, 3, 1, 2).to(self.device)
        saliency = torch.from_numpy(np.ascontiguousarray(prior)).to(self.device)
        answer = self.net(fill(image.float() / 255), fill(saliency))
        evidence = interpolate(answer.evidence, scale_factor=4, mode="bilinear", align_corners=False)
        return Output(
            _crop(answer.segmentation.float().softmax(dim=1), height, width),
            _numpy(answer.cell_type.float().softmax(dim=1)),
            _crop(evidence, height, width)[:, 0],
            _numpy(answer.embedding),
        )


def fill(images: Tensor) -> Tensor:
    """Enlarge (B, channels, H, W) to multiples of `STRIDE` px, equally on both sides, by repeating the border."""
    margins = [side for length in (images.shape[3], images.shape[2]) for side in _margins(length)]
    return pad(images, margins, mode="replicate") if any(margins) else images


def _margins(length: int) -> tuple[int, int]:
    missing = -length % STRIDE
    return missing // 2, missing - missing // 2


def _crop(filled: Tensor, height: int, width: int) -> NDArray[np.float32]:
    (top, _), (left, _) = _margins(height), _margins(width)
    return _numpy(filled[:, :, top : top + height, left : left + width])


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.float().cpu().numpy())


def weights_digest(net: nn.Module) -> str:
    """Hash names, dtypes, shapes and bytes of a network's state to 16 hexadecimal digits."""
    state = sorted(net.state_dict().items())
    return tensors_digest((name, tensor.detach().cpu().contiguous().numpy()) for name, tensor in state)


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` is the GPU where there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def save_model(folder: str | Path, spec: ModelSpec, net: nn.Module, *, half: bool = False) -> Path:
    """Write `spec.json` and `weights.safetensors` into a folder, which is made.

    Parameters
    ----------
    half
        Write float32 as float16: half the size, rounded to 11 bits. `load_model` gives float32 again, and the digest
        of the model as it is loaded is not that of `net`.

    Raises
    ------
    InputError
        If a weight is too large for float16; nothing is written then.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    written = _halved(state) if half else state
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    save_file(written, place / WEIGHTS_FILE)
    (place / SPEC_FILE).write_text(json.dumps(spec_to_dict(spec), indent=2))
    return place


def _halved(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: _narrow(name, tensor) if tensor.dtype == torch.float32 else tensor for name, tensor in state.items()}


def _narrow(name: str, tensor: Tensor) -> Tensor:
    narrow = tensor.half()
    lost = tensor[narrow.isinf() & tensor.isfinite()]
    if len(lost):
        most = torch.finfo(torch.float16).max
        raise InputError(f"{name}: {lost[0]:g} is beyond half precision (+-{most:g}); save the model in full precision")
    return narrow


def load_model(folder: str | Path, device: str = "auto") -> Model:
    """Load what `save_model` wrote; no pickled code is run and no pretrained weights are fetched.

    Weights are float32, whatever precision the file has.

    Raises
    ------
    MissingInputError
        If a file is missing.
    InputError
        If the files are damaged or do not belong together.
    """
    place, where = Path(folder), pick_device(device)
    spec = open_spec(place)
    net = build(replace(spec, net=replace(spec.net, pretrained=Pretrained.OFF)))
    try:
        net.load_state_dict(load_file(place / WEIGHTS_FILE))
    except (SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{place / WEIGHTS_FILE}: does not fit {SPEC_FILE} ({error}); export the model again"
        ) from error
    return Model(spec, net.eval().to(where).to(memory_format=torch.channels_last), where)
