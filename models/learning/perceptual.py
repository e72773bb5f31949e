"""What images are compared by in addition to their pixels: features of VGG-19, or a plain substitute without weights.

Both networks have the same call, `features(image (B,3,S,S) in [-1,1]) -> list of (B,C,n,n)`, from fine to coarse, and
are frozen. Their first `COMPONENT_LEVELS` maps have the sides S, S/2, S/4 and S/8.
"""

import pickle
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

COMPONENT_LEVELS = 4
"""Number of maps that the facial-component loss uses: those of the whole image down to an eighth of its side."""

SCALES = 4
"""Number of sizes at which the whole image is compared: 1, 1/2, 1/4 and 1/8, as in first-order motion models (arXiv
2003.00196) and in LIA.
"""

COARSEST = 16
"""In pixels; a smaller image leaves nothing of VGG's fifth level."""

_WIDTHS = (3, 64, 64, 128, 128, *(256,) * 4, *(512,) * 5)
_NUMBERS = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
"""Their indices in torchvision's `features`, up to conv5_1."""
_POOL_BEFORE = (5, 10, 19, 28)
_LEVELS = (0, 5, 10, 19, 28)
"""conv1_1, conv2_1, conv3_1, conv4_1, conv5_1."""


class Vgg19(nn.Module):
    """VGG-19 (Simonyan and Zisserman, arXiv 1409.1556) up to relu5_1, frozen.

    The weights are not part of this project: see `load_vgg19`. Images in [-1,1] are normalised to the mean and standard
    deviation of ImageNet, with which torchvision's weights were trained.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv2d(i, o, 3, padding=1) for i, o in pairwise(_WIDTHS))
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("deviation", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def features(self, image: Tensor) -> list[Tensor]:
        """(B,3,S,S) in [-1,1], S 16 or more -> relu1_1, 2_1, 3_1, 4_1, 5_1 at scale 1, then at 1/2, 1/4 and 1/8.

        Scales that would leave fewer than 16 px are left out: 20 maps from 128 px on, 15 at 64 px.
        """
        _check(image, COARSEST)
        x = ((image + 1) / 2 - self.mean) / self.deviation
        found: list[Tensor] = []
        for _ in range(SCALES):
            found += self._levels(x)
            if x.shape[-1] < 2 * COARSEST:
                break
            x = F.avg_pool2d(x, 2)
        return found

    def _levels(self, x: Tensor) -> list[Tensor]:
        found = []
        for number, convolution in zip(_NUMBERS, self.convolutions, strict=True):
            if number in _POOL_BEFORE:
                x = F.max_pool2d(x, 2)
            x = F.relu(convolution(x))
            if number in _LEVELS:
                found.append(x)
        return found


class GradientPyramid(nn.Module):
    """Substitute for VGG-19 without weights: colours and their differences between neighbours, at four sizes.

    It sees edges and blur, but does not know what an image shows, so results with it are not those of the paper.
    """

    def features(self, image: Tensor) -> list[Tensor]:
        """(B,3,S,S), S 8 or more -> four maps (B,9,n,n), n = S, S/2, S/4, S/8.

        Each has the colours, their differences to the right-hand neighbour and to the one below (zero at the border).
        """
        _check(image, 2 ** (COMPONENT_LEVELS - 1))
        found = []
        for level in range(COMPONENT_LEVELS):
            x = F.avg_pool2d(image, 2**level) if level else image
            right = F.pad(x[..., :, 1:] - x[..., :, :-1], (0, 1))
            below = F.pad(x[..., 1:, :] - x[..., :-1, :], (0, 0, 0, 1))
            found.append(torch.cat([x, right, below], dim=1))
        return found


Pyramid = Vgg19 | GradientPyramid
"""What perceptual losses are measured with."""


def load_vgg19(path: str | Path) -> Vgg19:
    """VGG-19 from a file in torchvision's layout (`features.0.weight`, ...), in .safetensors or PyTorch's own format.

    Layers beyond conv5_1, including the classifier, are not needed and are ignored. Raises ValueError if the file
    cannot be read, or weights are missing or of another shape.
    """
    path = Path(path)
    try:
        if path.suffix == ".safetensors":
            state: Mapping[str, Tensor] = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError) as error:
        raise ValueError(
            f"{path} cannot be read as weights: give VGG-19 of torchvision, as .safetensors or as PyTorch saves it"
        ) from error
    network = Vgg19()
    wanted, wrong = {}, []
    for name, parameter in network.state_dict().items():
        _, place, kind = name.split(".")
        theirs = f"features.{_NUMBERS[int(place)]}.{kind}"
        tensor = state.get(theirs) if isinstance(state, Mapping) else None
        if not isinstance(tensor, Tensor):
            wrong.append(f"{theirs} is missing")
        elif tensor.shape != parameter.shape:
            wrong.append(f"{theirs} has shape {tuple(tensor.shape)}, not {tuple(parameter.shape)}")
        else:
            wanted[name] = tensor.float()
    if wrong:
        raise ValueError(f"{path} does not hold VGG-19's weights in torchvision's layout (vgg19): {'; '.join(wrong)}")
    network.load_state_dict(wanted)
    return network.eval()


def _check(image: Tensor, least: int) -> None:
    if image.dim() != 4 or image.shape[1] != 3 or image.shape[2] != image.shape[3] or image.shape[3] < least:
        raise ValueError(f"image must be (B,3,S,S) with S {least} or more, got {tuple(image.shape)}")
