"""Where a model's motion has the mouth, and its rest: found by a probe of the model itself, without training.

The model samples motion for made-up speech, which moves head, lids and mouth in every way that it knows, and decodes it
for a few portraits. The landmarks of each frame give the opening of the mouth, and what has to stay as it is: the turn
and the place of the head, its size, the opening of the eyes and the height of the brows. With x for the coefficients of
a frame's motion in the model's own directions (`MotionDirections`), all centred per portrait, ridge regression gives

    mouth = C x,    everything else = N x

A change of the mouth alone by one unit is, of all changes, the most probable one under the covariance S of the motion
(the conditional mean of a normal distribution): W = S A' (A S A')^-1 with A = [C; N], and of it the columns of the
mouth. A mouth at rest is then x - share W (C x - rest), where `rest` is what the most closed mouths of the probe have.
"""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from models import EMOTIONS, FLOAT
from models.config import POSE_DIM
from models.fast.private_cache import private_folder
from models.pixels import to_images, to_tensor
from models.sampling import default_nfe
from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import pose_of
from pipeline.measure.face_track import lid_opening, mouth_opening
from pipeline.render.mouth import Mouth, RestingMouth
from pipeline.render.portrait import find_portrait
from pipeline.render.variants import use_precision
from pipeline.storage.model_cache import cache_explained, cache_folder

logger = logging.getLogger(__name__)

FACES = Path(__file__).parent / "probe_faces"
"""Generated people, who are in no corpus of the bundled model."""
TAKES, WINDOWS = 2, 2
"""Takes with noise of their own of each portrait, and windows of motion of a take."""
RIDGE = 30.0
"""Weight of the ridge: of some 800 frames, so it only matters for directions that hardly move."""
CLOSED = 10
"""The rest is that of so many percent of the frames, the most closed ones of each portrait."""
DEEPER = 2.5
"""How far beyond that the mouth is closed, in standard deviations of the probe: lips that touch stay closed although
the head moves. 1 more rests the mouth better, but moves lids and head further (`pipeline/qc/README.md` has figures).
"""
LEAST_FACES = 0.9
"""Share of the frames that must show a face."""

VERSION = 2
"""Of the cached files."""

_BROWS = [70, 63, 105, 66, 107, 300, 293, 334, 296, 336]
_EYES = [33, 133, 263, 362]
_MIDDLE = [*_EYES, 168, 6, 197]  # with the bridge of the nose
_BATCH = 10


def resting_mouth(share: np.ndarray | None, model: FLOAT, key: str) -> RestingMouth | None:
    """What puts the mouth of a clip to rest; None if it never does. `key` identifies the model.

    The mouth is looked for with the first clip that needs it, and kept in the node's cache. Raises ClipError
    mouth_not_found, and RefusedError for a cache that others can write.
    """
    if share is None:
        return None
    with cache_explained():
        return RestingMouth(mouth_of(model, key, private_folder(cache_folder() / "mouths")), share)


def mouth_of(model: FLOAT, key: str, cache: Path) -> Mouth:
    """The mouth of a model from the folder `cache`, or found now. Raises ClipError mouth_not_found."""
    file = cache / f"{key[:32]}.{VERSION}.safetensors"
    if file.is_file():
        try:
            found = load_file(file)
            return Mouth(found["read"], found["write"], float(found["rest"][0]))
        except (OSError, SafetensorError, KeyError) as error:
            logger.warning("%s is damaged (%s): the mouth is looked for again", file, error)
    mouth = found_mouth(model)
    parts = {"read": mouth.read, "write": mouth.write, "rest": np.array([mouth.rest], np.float32)}
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        fresh = Path(folder) / "mouth"
        save_file(parts, fresh)
        fresh.replace(file)
    return mouth


@torch.no_grad()
def found_mouth(model: FLOAT) -> Mouth:
    """Probe a model, in float32 and with the plain modules. Raises ClipError mouth_not_found."""
    use_precision("float32")
    basis = model.autoencoder.directions.basis.float().cpu().numpy().astype(np.float64)  # (D,M)
    detector, parts = FaceDetector(), []
    for number, pixels in enumerate(_faces(model.config.image_size, detector)):
        takes = [_probed(model, pixels, seed=10 * take + number) for take in range(TAKES)]
        motion, frames = (np.concatenate(every) for every in zip(*takes, strict=True))
        seen = _measured(frames, detector)
        check_faces(float(np.isfinite(seen[:, 0]).mean()))
        parts.append((motion @ basis, seen))
    return _fitted(basis, parts)


def check_faces(share: float) -> None:
    """Raise ClipError mouth_not_found if too small a share of the frames of a portrait shows a face."""
    if share < LEAST_FACES:
        raise ClipError(
            "mouth_not_found",
            f"silence asks to rest the mouth, but only {share:.0%} of the frames that the model makes of a test "
            "portrait show a face, so its mouth could not be found: set silence to model, or use a trained model",
        )


def _fitted(basis: np.ndarray, parts: list[tuple[np.ndarray, np.ndarray]]) -> Mouth:
    """From coefficients (n,M) and measurements (n,1+N) of each portrait."""
    parts = [(x[np.isfinite(seen[:, 0])], seen[np.isfinite(seen[:, 0])]) for x, seen in parts]
    x, seen = (np.concatenate([one - one.mean(0) for one in column]) for column in zip(*parts, strict=True))
    seen = seen / np.maximum(seen.std(0), 1e-9)
    reads = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ seen).T  # (1+N,M)
    spread = x.T @ x / len(x)
    inner = reads @ spread @ reads.T
    writes = spread @ reads.T @ np.linalg.pinv(inner, rcond=1e-6, hermitian=True)
    read, write = reads[0], writes[:, 0]
    closed = []
    for own, measured in parts:
        most = measured[:, 0] <= np.percentile(measured[:, 0], CLOSED)
        closed.append(float((own[most] @ read).mean()))
    rest = float(np.mean(closed)) - DEEPER * float((x @ read).std())
    return Mouth((basis @ read).astype(np.float32), (basis @ write).astype(np.float32), rest)


def _faces(side: int, detector: FaceDetector) -> Iterator[np.ndarray]:
    """The portraits of the probe, cropped (S,S,3) uint8."""
    for path in sorted(FACES.glob("*.webp")):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        yield find_portrait(pixels, path.name, "auto", Limits(), detector, side).pixels


def _probed(model: FLOAT, pixels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Motion (n,D) float64 for made-up speech, and its frames (n,S,S,3) uint8."""
    config, device = model.config, model.autoencoder.decoder.constant.device
    frames = config.window * WINDOWS
    portrait = model.encode_portrait(to_tensor(pixels, device))
    generator = torch.Generator().manual_seed(seed)  # on the CPU, so that it is the same everywhere
    speech = model.project_speech(torch.randn(1, frames, config.content_dim, generator=generator).to(device))
    emotion = torch.full((1, len(EMOTIONS)), 0.0 if config.emotion == "none" else 1 / len(EMOTIONS), device=device)
    pose = None
    if config.pose != "none":
        pose = 0.1 * torch.sin(torch.arange(frames)[None, :, None] / 8 + torch.arange(POSE_DIM)).to(device)
    nfe = default_nfe(config.objective)
    motion = model.sample_motion(speech, portrait.motion, emotion, nfe=nfe, seeds=[seed], pose=pose)[0]
    decoded = [to_images(model.decode(portrait, part)) for part in motion.split(_BATCH)]
    return motion.cpu().numpy().astype(np.float64), np.concatenate(decoded)


def _measured(frames: np.ndarray, detector: FaceDetector) -> np.ndarray:
    """Of each frame the opening of the mouth, and what has to stay as it is (n,9); NaN without a face."""
    rows, face = [], None
    for frame in frames:
        face = next(iter(detector.detect(frame)), None) if face is None else detector.follow(frame, face)
        rows.append((np.nan,) * 9 if face is None else _seen(face))
    return np.array(rows)


def _seen(face: Face) -> tuple[float, ...]:
    """Place and size of the head come from what the jaw does not move: a box around the face falls as it closes."""
    points, pose = face.landmarks, pose_of(face.landmarks)
    width = float(np.linalg.norm(points[_EYES[0]] - points[_EYES[2]]))
    brows = float(points[_EYES, 1].mean() - points[_BROWS, 1].mean()) / width
    x, y = points[_MIDDLE, :2].mean(0).tolist()
    return (mouth_opening(points), pose.yaw, pose.pitch, pose.roll, x, y, width, lid_opening(points), brows)
