"""The reader: a small network that reads blendshapes from the pixels of a face.

It is a measuring instrument and not a part of any model: it is trained on true frames of training speakers with their
ground truth. Rendered frames are blurrier than true ones, so it is also trained on blurred and noisy frames, and does
not take a blurred mouth for a closed one.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load, save
from torch import Tensor, nn

from models.pixels import to_images, to_tensor
from pipeline.evaluation.bootstrap import Estimate
from pipeline.research.corpus.units import CURVES
from pipeline.research.study.clips import (
    PLACE,
    SMILE,
    Watch,
    every,
    frames_of,
    read_curves,
    speaker_of,
    spread,
    unwatched,
)
from pipeline.research.study.metric import Metric
from pipeline.research.study.probe import MOVES, Frames, mean_r2, r2, within_clips
from pipeline.research.study.settings import ReaderSettings
from pipeline.storage.objects import read_bytes, write_bytes
from pipeline.training_data.shards import Shards

SIDE = 64
"""Side of the images that it reads, px."""
FACE = (0.16, 0.2, 0.84, 0.88)
"""The part that it looks at: left, top, right, bottom as shares of the frame. jobs.prepare and jobs.render put the face
of a portrait at the same place.
"""
FINE = 128
"""Side at which true frames are read before the face is cropped, px."""
BATCH = 128

WATCHED = {
    "jawOpen": ("jawOpen",),
    "smile": SMILE,
    "frown": ("mouthFrownLeft", "mouthFrownRight"),
    "brows_down": ("browDownLeft", "browDownRight"),
    "brows_up": ("browInnerUp",),
    "yaw": ("yaw",),
}
"""Name of a metric -> the blendshapes that are averaged for it."""


PLACED = ("x", "y", "size")
"""The position of the head in the frame, which is not read."""

_TURNED = dict.fromkeys(("yaw", "roll", "x", "gazeX"), -1.0)
_SIGN = [_TURNED.get(name, 1.0) for name in CURVES]


def _partner(name: str) -> str:
    for one, other in (("Left", "Right"), ("Right", "Left")):
        if name.endswith(one):
            return name.removesuffix(one) + other
    return name


_MIRROR = [CURVES.index(_partner(name)) for name in CURVES]


class ReaderNetwork(nn.Module):
    """Five convolutions of stride 2 and two linear layers: (B,3,64,64) in [-1,1] -> (B,60) standardised values."""

    def __init__(self, channels: Sequence[int] = (32, 64, 96, 128, 128)) -> None:
        super().__init__()
        sizes = [3, *channels]
        layers: list[nn.Module] = []
        for inputs, outputs in pairwise(sizes):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(outputs)]
            layers.append(nn.ReLU())
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels[-1] * 4, 256), nn.ReLU(), nn.Linear(256, len(CURVES))
        )
        self.register_buffer("mean", torch.zeros(len(CURVES)))
        self.register_buffer("scale", torch.ones(len(CURVES)))
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Standardised; the values are `mean + scale * output`."""
        return self.head(self.body(images))


class Reader:
    """A trained reader."""

    def __init__(self, network: ReaderNetwork, device: str = "cpu") -> None:
        self._network, self._device = network.eval().to(device), device

    def read(self, pictures: np.ndarray) -> np.ndarray:
        """Whole frames (T,S,S,3) uint8 -> (T,60) values; those of `PLACED` have no meaning."""
        return np.concatenate(
            [self.read_faces(faces_of(pictures[at : at + BATCH])) for at in range(0, len(pictures), BATCH)]
        )

    @torch.no_grad()
    def read_faces(self, faces: Tensor) -> np.ndarray:
        """Faces (N,3,64,64) in [-1,1] from `faces_of` -> (N,60): averages over a face and its mirror image."""
        found = []
        sign = self._network.mean.new_tensor(_SIGN)
        for images in faces.to(self._device).split(BATCH):
            seen, turned = (
                self._network.mean + self._network.scale * self._network(x) for x in (images, images.flip(-1))
            )
            found.append(((seen + turned[:, _MIRROR] * sign) / 2).cpu().numpy())
        return np.concatenate(found)

    def save(self, uri: str) -> None:
        """Save as safetensors."""
        state = {name: value.cpu().contiguous() for name, value in self._network.state_dict().items()}
        write_bytes(save(state), uri)

    @classmethod
    def load(cls, uri: str, device: str = "cpu") -> "Reader | None":
        """The reader, or None if there is none."""
        data = read_bytes(uri)
        if data is None:
            return None
        network = ReaderNetwork()
        network.load_state_dict(load(data))
        return cls(network, device)


def faces_of(pictures: np.ndarray) -> Tensor:
    """(n,S,S,3) uint8 -> `FACE` of each, (n,3,64,64) in [-1,1]."""
    images, side = to_tensor(pictures), pictures.shape[1]
    left, top, right, bottom = (round(edge * side) for edge in FACE)
    face = images[:, :, top:bottom, left:right]
    return F.interpolate(face, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(-1, 1)


def sample_frames(
    shards: Shards, clips: Sequence[int], per_clip: int, most: int, watch: Watch = unwatched
) -> tuple[np.ndarray, Frames]:
    """Faces (N,64,64,3) uint8 of clips, at most `most`, and their ground truth (without codes)."""
    per_clip = max(1, min(per_clip, most // max(1, len(clips))))
    pictures, curves, speakers, places = [], [], [], []
    for clip in watch(clips, "clips to read frames of"):
        numbers = every(int(shards.frames[clip]), per_clip)
        pictures.append(to_images(faces_of(frames_of(shards, clip, numbers, FINE))))
        curves.append(read_curves(shards, clip)[numbers])
        speakers += [speaker_of(shards, clip)] * len(numbers)
        places += [clip] * len(numbers)
    known = np.concatenate(curves)
    return np.concatenate(pictures), Frames(np.zeros((len(known), 0)), known, speakers, np.array(places))


def train_reader(
    pictures: np.ndarray,
    curves: np.ndarray,
    settings: ReaderSettings,
    seed: int = 0,
    device: str = "cpu",
    watch: Watch = unwatched,
) -> Reader:
    """Train on faces (N,64,64,3) uint8 and values (N,60): squared error of standardised values, Adam, a cosine
    schedule.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = ReaderNetwork().to(device)
        spread_ = curves.std(0)
        network.mean.copy_(torch.from_numpy(curves.mean(0)))
        network.scale.copy_(torch.from_numpy(np.where(spread_ > MOVES / 4, spread_, 1.0)))
        known = [i for i, name in enumerate(CURVES) if name not in PLACED]
        steps = max(1, len(pictures) // settings.batch)
        optimiser = torch.optim.Adam(network.parameters(), settings.learning_rate, weight_decay=1e-5)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: 0.5 + 0.5 * math.cos(math.pi * min(1.0, step / (steps * settings.epochs)))
        )
        network.train()
        for _ in watch(range(settings.epochs), "training epochs of the reader"):
            for places in torch.randperm(len(pictures)).split(settings.batch)[:steps]:
                wanted = torch.from_numpy(curves[places.numpy()].astype(np.float32)).to(device)
                images, wanted = mirrored(to_tensor(pictures[places.numpy()]).to(device), wanted)
                missed = network(disturbed(images)) - (wanted - network.mean) / network.scale
                loss = missed[:, known].square().mean()
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
                schedule.step()
    return Reader(network, device)


def disturbed(images: Tensor) -> Tensor:
    """(B,3,S,S) in [-1,1] as other cameras would show them: framing, light and colours, blur, noise.

    The position of the head changes too, so the values of `PLACED` cannot be learned.
    """
    count, side = len(images), images.shape[-1]

    def draw(low: float, high: float, channels: int = 1) -> Tensor:
        return (low + (high - low) * torch.rand(count, channels, 1, 1)).to(images)

    scale, stretch = draw(0.85, 1.15).flatten(), draw(0.95, 1.05).flatten()
    zero, across, down = torch.zeros_like(scale), draw(-0.12, 0.12).flatten(), draw(-0.12, 0.12).flatten()
    where = torch.stack([torch.stack([scale, zero, across], 1), torch.stack([zero, scale * stretch, down], 1)], 1)
    grid = F.affine_grid(where, list(images.shape), align_corners=False)
    images = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    images = images * draw(0.7, 1.25) * draw(0.85, 1.15, 3) + draw(-0.2, 0.2) + draw(-0.1, 0.1, 3)
    grey = draw(0, 1) * (draw(0, 1) < 0.5)
    images = images + grey * (images.mean(1, keepdim=True) - images)
    factor = int(torch.randint(2, 4, ()))
    soft = F.interpolate(images, scale_factor=1 / factor, mode="bilinear", antialias=True)
    soft = F.interpolate(soft, (side, side), mode="bicubic")
    images = torch.where(draw(0, 1) < 1 / 3, soft, images)
    return (images + draw(0, 0.05) * torch.randn_like(images)).clamp(-1, 1)


def mirrored(images: Tensor, curves: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the images (B,3,S,S) and their values (B,60) mirrored, which swaps left and right."""
    flip = (torch.rand(len(images)) < 0.5).to(images.device)
    images = torch.where(flip[:, None, None, None], images.flip(-1), images)
    return images, torch.where(flip[:, None], curves[:, _MIRROR] * curves.new_tensor(_SIGN), curves)


def ready_reader(
    uri: str,
    train: Shards,
    settings: ReaderSettings,
    seed: int = 0,
    device: str = "cpu",
    watch: Watch = unwatched,
) -> Reader:
    """The reader at `uri`, or a new one that is trained and stored there."""
    known = Reader.load(uri, device)
    if known is not None:
        return known
    clips = spread(train, len(train), seed)
    pictures, frames = sample_frames(train, clips, settings.per_clip, settings.frames, watch)
    reader = train_reader(pictures, frames.curves, settings, seed, device, watch)
    reader.save(uri)
    return reader


def reader_metrics(
    reader: Reader, held_out: Shards, count: int, per_clip: int, seed: int = 0, watch: Watch = unwatched
) -> list[Metric]:
    """R2 on true frames of held-out speakers: the quality of this instrument."""
    pictures, known = sample_frames(held_out, spread(held_out, count, seed), per_clip, count * per_clip, watch)
    found = reader.read_faces(to_tensor(pictures))

    def score(names: Sequence[str]) -> Estimate:
        places = [CURVES.index(name) for name in names]
        return r2(found[:, places].mean(1), known.curves[:, places].mean(1), known.speakers, seed)

    metrics = [
        Metric(f"reader.{key}", f"reader on real held-out frames: R2 of {key}", score(names), "", "frames")
        for key, names in WATCHED.items()
    ]
    jaw = PLACE["jawOpen"]
    moved, true = (within_clips(values[:, jaw], known.clips) for values in (found, known.curves))
    text = "reader on real held-out frames: R2 of jawOpen, after subtracting each clip's mean"
    metrics.append(Metric("reader.within.jawOpen", text, r2(moved, true, known.speakers, seed), "", "frames"))
    moving = [i for i, name in enumerate(CURVES) if name not in PLACED and known.curves[:, i].std() > MOVES]
    together = mean_r2(found[:, moving], known.curves[:, moving], known.speakers, seed)
    text = f"reader on real held-out frames: R2, mean of the {len(moving)} blendshapes that move"
    return [*metrics, Metric("reader.moving", text, together, "", "frames")]
