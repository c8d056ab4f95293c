"""A trained network with its spec: saved and loaded without pickle, and run on NumPy arrays."""

import json
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from sgcldff.core.arrays import Rgb
from sgcldff.core.atomic import atomic_write
from sgcldff.core.boundary import reading
from sgcldff.core.errors import InputError
from sgcldff.core.settings import ModelSpec, Pretrained
from sgcldff.models.checkpoint import SPEC_FILE, WEIGHTS_FILE, open_spec, saved_digest, spec_to_dict, tensors_digest
from sgcldff.models.nets import build
from sgcldff.models.nets.base import Network
from sgcldff.models.runtimes.padding import margins


@dataclass(frozen=True)
class Output:
    """Predictions for a batch of B images of H x W px."""

    segmentation: NDArray[np.float32]
    """Probabilities of background, cytoplasm, nucleus; (B, 3, H, W), sums to 1 over axis 1."""
    cell_type: NDArray[np.float32]
    """Class probabilities of the cell at the centre; (B, C), sums to 1."""
    evidence: NDArray[np.float32]
    """Where in the image the classification is based on; (B, H, W) in [0, 1]."""
    embedding: NDArray[np.float32]
    """Features from which the cell is classified; (B, D)."""


@dataclass(frozen=True)
class Model:
    """A network ready for inference; not meant for further training."""

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
        """Run the network on a batch.

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
        prediction = self.net(pad_to_stride(image.float() / 255), pad_to_stride(saliency))
        evidence = interpolate(prediction.evidence, scale_factor=4, mode="bilinear", align_corners=False)
        return Output(
            _crop(prediction.segmentation.float().softmax(dim=1), height, width),
            _numpy(prediction.cell_type.float().softmax(dim=1)),
            _crop(evidence, height, width)[:, 0],
            _numpy(prediction.embedding),
        )


def pad_to_stride(images: Tensor) -> Tensor:
    """Enlarge (B, channels, H, W) to multiples of `STRIDE` px, equally on both sides, by repeating the border."""
    padding = [side for length in (images.shape[3], images.shape[2]) for side in margins(length)]
    return pad(images, padding, mode="replicate") if any(padding) else images


def _crop(padded: Tensor, height: int, width: int) -> NDArray[np.float32]:
    (top, _), (left, _) = margins(height), margins(width)
    return _numpy(padded[:, :, top : top + height, left : left + width])


def _numpy(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.float().cpu().numpy())


def weights_digest(net: nn.Module) -> str:
    """Hash the names, dtypes, shapes and bytes of a network's state to 16 hexadecimal digits."""
    state = sorted(net.state_dict().items())
    return tensors_digest((name, tensor.detach().cpu().contiguous().numpy()) for name, tensor in state)


def pick_device(name: str = "auto") -> torch.device:
    """Return the named device; `auto` is the GPU if there is one."""
    return torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name)


def save_model(folder: str | Path, spec: ModelSpec, net: nn.Module, *, half: bool = False) -> Path:
    """Write `spec.json` and `weights.safetensors` to a folder, which is created if needed.

    Parameters
    ----------
    half
        Write float32 as float16: half the size, rounded to 11 bits. `load_model` returns float32 again, with a digest
        that differs from that of `net`.

    Raises
    ------
    InputError
        If a weight is too large for float16; nothing is written then.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    if half:
        state = {name: _to_half(name, tensor) for name, tensor in state.items()}
    target = Path(folder)
    with atomic_write(target / WEIGHTS_FILE) as draft:
        save_file(state, draft)
    with atomic_write(target / SPEC_FILE) as draft:
        draft.write_text(json.dumps(spec_to_dict(spec), indent=2))
    return target


def _to_half(name: str, tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32:
        return tensor
    half = tensor.half()
    overflow = tensor[half.isinf() & tensor.isfinite()]
    if len(overflow):
        limit = torch.finfo(torch.float16).max
        raise InputError(
            f"{name}: {overflow[0]:g} is beyond half precision (+-{limit:g}); save the model in full precision"
        )
    return half


def load_model(folder: str | Path, device: str = "auto") -> Model:
    """Load a saved model; no pickled code is run and no pretrained weights are fetched.

    Weights are float32 whatever the precision of the file.

    Raises
    ------
    MissingInputError
        If a file is missing.
    InputError
        If the files are damaged or do not belong together.
    """
    weights, target = Path(folder) / WEIGHTS_FILE, pick_device(device)
    spec = open_spec(folder)
    with reading(weights, f"does not fit {SPEC_FILE}", "export the model again"):
        try:
            net = build(replace(spec, net=replace(spec.net, pretrained=Pretrained.OFF)))
        except InputError as error:
            raise InputError(f"{Path(folder) / SPEC_FILE}: {error}") from error
        net.load_state_dict(load_file(weights))
    for name, tensor in net.state_dict().items():
        if not tensor.isfinite().all() or (name.endswith("running_var") and (tensor < 0).any()):
            raise InputError(
                f"{weights}: {name} is not finite, or a negative variance; train or export the model again"
            )
    return Model(spec, net.eval().to(target).to(memory_format=torch.channels_last), target)


def cached_model(folder: str | Path) -> Model:
    """Load a model as `load_model` does, or return the one that this process loaded from the same files before."""
    return _cached_model(str(folder), saved_digest(folder))


@lru_cache(maxsize=2)
def _cached_model(folder: str, weights: str) -> Model:
    return load_model(folder)
