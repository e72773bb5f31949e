"""Networks of metrics that are defined by them: given by path, and identified by their hash; dlib's is installed.

The project includes none of them. All except SyncNet are files of `torch.export.save`, whose batch dimension is dynamic
or 1; loading one runs code that is in it, so they must come from a trusted source. The face embedding may also be
safetensors of `pipeline.measure.iresnet`. Each may be pinned (`pipeline.storage.pinned`). Inputs are float32 RGB in
[-1,1].
"""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.common.extras import missing_of
from pipeline.common.options import SettingError
from pipeline.face.detector import Face
from pipeline.measure.dlib_face import SHA256, SIZE, DlibFace, weights_file
from pipeline.measure.embedder import Embedder, align
from pipeline.measure.iresnet import is_safetensors, load_iresnet
from pipeline.measure.syncnet import SyncNet, load_syncnet
from pipeline.storage.pinned import read_pinned

FACE_MARGIN = 1.5
"""Side of the square for a head pose network, as a multiple of the face size (the longer side of its box)."""


@dataclass(frozen=True)
class Kind:
    """What a network is for, and its input."""

    key: str
    """Setting for its file."""
    shapes: tuple[tuple[int, ...], ...]
    """Input shapes that it may be exported for, without the batch."""
    text: str


KINDS = (
    Kind(
        "inception",
        ((3, 299, 299),),
        "Inception network for FID: (B,3,299,299) RGB in [-1,1], the input of the body of pytorch-fid's "
        "pt_inception-2015-12-05, -> (B,2048) pooled features.",
    ),
    Kind(
        "i3d",
        ((3, 16, 224, 224),),
        "I3D network (Kinetics-400) for FVD: (B,3,16,224,224) RGB in [-1,1] -> (B,400).",
    ),
    Kind(
        "identity_model",
        ((3, 112, 112),),
        "Face embedding network for CSIM, as for qc.identity_model: (B,3,112,112) RGB in [-1,1], aligned as for "
        "ArcFace -> (B,D). It may also be safetensors of ArcFace's iresnet, which have no code.",
    ),
    Kind(
        "expression",
        ((3, 112, 112), (3, 224, 224)),
        "Network that predicts expression coefficients (3DMM) for E-FID: (B,3,S,S) RGB in [-1,1] with S 112 or 224, "
        "aligned as for ArcFace -> (B,E).",
    ),
    Kind(
        "pose_model",
        ((3, 112, 112), (3, 224, 224)),
        "Network that predicts head poses for P-FID: (B,3,S,S) RGB in [-1,1] with S 112 or 224, an upright square of "
        "1.5 times the face size around the face -> (B,P).",
    ),
)
"""Files of `torch.export.save`."""

SYNCNET = "syncnet"
KEYS = (*(kind.key for kind in KINDS), SYNCNET)

DLIB = "dlib_distance"
"""Setting for dlib's face embedding, which is installed and not given."""
DLIB_SECONDS = 0.5
"""Between two frames that it sees: it takes 0.08 s of a CPU core, and every frame would cost more than all the rest."""


def why_no_dlib(setting: str) -> str:
    """Why dlib's distance is not measured with this value of the setting on this machine; empty if it is.

    Raises RefusedError if it must be measured and cannot be.
    """
    if setting == "never":
        return f"{DLIB}=never"
    if setting == "auto" and missing_of("identity"):
        return "the extra `identity` is not installed (pip install 'floatcast[identity]')"
    weights_file()
    return ""


class Network:
    """An exported network, checked when it is loaded. Raises SettingError."""

    def __init__(self, kind: Kind, file: bytes) -> None:
        self.key = kind.key
        if is_safetensors(file):
            self._from_weights(kind, file)
        else:
            self._from_program(kind, file)
        made = self(torch.zeros(1, *self.shape))
        if made.ndim != 2 or not np.isfinite(made).all():
            raise SettingError(
                kind.key, f"for a grey image it returns {made.shape} instead of finite numbers of shape (1,D)"
            )

    def _from_weights(self, kind: Kind, file: bytes) -> None:
        if kind.key != "identity_model":
            raise SettingError(kind.key, "safetensors have no program: export the network with torch.export.save")
        try:
            self._module: nn.Module = load_iresnet(file)
        except ValueError as error:
            raise SettingError(kind.key, str(error)) from error
        self.shape, self.fixed = kind.shapes[0], False

    def _from_program(self, kind: Kind, file: bytes) -> None:
        try:
            program = torch.export.load(io.BytesIO(file))
        except Exception as error:  # errors of zip, JSON and torch, none of which says anything to the user
            raise SettingError(
                kind.key, "the file was not written by torch.export.save, or is damaged: export the network again"
            ) from error
        names = program.graph_signature.user_inputs
        inputs = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        first = inputs.get(str(names[0])) if len(names) == 1 else None
        if not isinstance(first, Tensor) or tuple(first.shape[1:]) not in kind.shapes:
            found = "several inputs" if len(names) != 1 else str(tuple(getattr(first, "shape", ())))
            wanted = " or ".join(f"(B,{','.join(map(str, shape))})" for shape in kind.shapes)
            raise SettingError(kind.key, f"its input is {found}, but it must be {wanted}: {kind.text}")
        self.shape = tuple(int(side) for side in first.shape[1:])
        batch = first.shape[0]
        self.fixed = isinstance(batch, int)
        """Whether it takes one image at a time."""
        if self.fixed and int(batch) != 1:
            raise SettingError(
                kind.key, f"the network was exported for batches of {batch} images: export it for 1 or for any number"
            )
        self._module = program.module()

    @torch.no_grad()
    def __call__(self, batch: Tensor) -> np.ndarray:
        """(N,...) -> (N,D) float32."""
        parts = batch.split(1) if self.fixed else (batch,)
        return torch.cat([self._module(part) for part in parts]).float().numpy()


class Networks:
    """The networks that were given.

    One per worker. Raises SettingError for a file that is missing or not a suitable network.
    """

    def __init__(self, places: Mapping[str, str], dlib: bool = False) -> None:
        """`places`: key -> path or URI, empty if there is none; `dlib`: whether dlib's embedding is wanted."""
        files = {key: read_pinned(key, places[key]) for key in KEYS if places.get(key)}
        self.hashes = {key: hashlib.sha256(file).hexdigest() for key, file in files.items()}
        """Key -> SHA-256 of the file."""
        self.dlib = DlibFace() if dlib else None
        if dlib:
            self.hashes[DLIB] = SHA256
        self.exported = {kind.key: Network(kind, files[kind.key]) for kind in KINDS if kind.key in files}
        self.embed = Embedder(files["identity_model"]) if self.exported.pop("identity_model", None) else None
        self.syncnet: SyncNet | None = load_syncnet(files[SYNCNET]) if SYNCNET in files else None


# --- What they see ---------------------------------------------------------------------------------------------


def whole(picture: Tensor, side: int) -> Tensor:
    """(1,3,H,W) -> (1,3,side,side): bilinear with half-pixel centres and no filter before, like pytorch-fid's
    resizing.
    """
    return F.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False)


def aligned(picture: Tensor, face: Face, side: int) -> Tensor:
    """(1,3,H,W) -> (1,3,side,side), aligned by five points as for ArcFace."""
    return align(picture, face.landmarks, side)


def upright(picture: Tensor, face: Face, side: int) -> Tensor:
    """(1,3,H,W) -> (1,3,side,side): a square around the face without rotation, so that its tilt stays; borders
    repeat.
    """
    _, _, height, width = picture.shape
    steps = ((torch.arange(side) + 0.5) / side - 0.5) * FACE_MARGIN * face.size
    x, y = face.centre
    across, down = (x + steps) / width * 2 - 1, (y + steps) / height * 2 - 1
    grid = torch.stack(torch.meshgrid(across, down, indexing="xy"), dim=-1)[None]
    return F.grid_sample(picture, grid, mode="bilinear", padding_mode="border", align_corners=False)


def dlib_row(embed: DlibFace, image: np.ndarray, face: Face | None) -> np.ndarray:
    """(H,W,3) uint8 RGB -> its embedding (1,SIZE) float32, NaN without a face."""
    return np.full((1, SIZE), np.nan, np.float32) if face is None else embed(image, face.landmarks)[None]
