"""The user's network of faces, and the alignment of its input.

The project does not include such a model. The user's file is either safetensors of ArcFace's own network (`iresnet`),
or was written by `torch.export.save`: loading that runs code that is in the file, so it must come from a trusted
source. The model takes (1,3,112,112) float32 RGB in [-1,1], aligned like ArcFace's training data (Deng 2019), and
returns (1,D).
"""

import io

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.pixels import to_tensor
from pipeline.common.options import SettingError
from pipeline.measure.iresnet import is_safetensors, load_iresnet

SIDE = 112
POINTS = ((33, 133), (362, 263), (1,), (61,), (291,))
"""Landmarks whose means are the right eye, the left eye, the tip of the nose and the corners of the mouth."""
PLACES = ((38.3, 51.7), (73.5, 51.5), (56.0, 71.7), (41.5, 92.4), (70.7, 92.2))
"""Positions of these points in an aligned image, px (ArcFace's template)."""


class Embedder:
    """The model; one per worker."""

    def __init__(self, file: bytes) -> None:
        """`file`: its contents. Raises SettingError if they are neither of the two kinds."""
        try:
            self._network: nn.Module = (
                load_iresnet(file) if is_safetensors(file) else torch.export.load(io.BytesIO(file)).module()
            )
        except Exception as error:  # errors of zip, JSON and torch, none of which says anything to the user
            known = f": {error}" if is_safetensors(file) and isinstance(error, ValueError) else ""
            raise SettingError(
                "identity_model",
                f"the file was not written by torch.export.save, nor is it safetensors of an iresnet{known}; export "
                "the network again",
            ) from error

    @torch.no_grad()
    def __call__(self, image: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
        """(H,W,3) uint8 RGB and landmarks (468,3) in its pixels -> an embedding (D,) of length 1."""
        return F.normalize(self._network(align(to_tensor(image), landmarks)).flatten(), dim=0).numpy()


def align(pixels: Tensor, landmarks: np.ndarray, side: int = SIDE) -> Tensor:
    """(1,3,H,W) -> (1,3,side,side): rotated, scaled and shifted so that the five points match the template best."""
    known = np.array(PLACES) * side / SIDE
    found = np.stack([landmarks[list(group), :2].mean(0) for group in POINTS])
    # The similarity transform from the aligned image to the input image, by least squares: x' = a x - b y + c.
    rows = np.concatenate(
        [
            np.stack([known[:, 0], -known[:, 1], np.ones(5), np.zeros(5)], axis=1),
            np.stack([known[:, 1], known[:, 0], np.zeros(5), np.ones(5)], axis=1),
        ]
    )
    a, b, c, d = np.linalg.lstsq(rows, found.T.reshape(-1), rcond=None)[0]
    y, x = np.mgrid[:side, :side] + 0.5
    _, _, height, width = pixels.shape
    where = np.stack([(a * x - b * y + c) / width, (b * x + a * y + d) / height], axis=-1) * 2 - 1
    grid = torch.from_numpy(where.astype(np.float32))[None]
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="border", align_corners=False)
