"""SyncNet's lip-sync error (LSE-C, LSE-D and offset), if the user gives the authors' weights.

Chung and Zisserman, "Out of time: automated lip sync in the wild" (2016), with the names of Wav2Lip (Prajwal 2020). The
distances between the embeddings of 5 frames at 25 fps and of 0.2 s of audio at 16 kHz are averaged over the clip, for
offsets of up to 15 frames. LSE-D is the smallest of these 31 distances, LSE-C is their median minus the smallest, and
the offset is where the smallest lies. Our own detector crops the face with the authors' margins, so values differ
slightly from those of their face tracker. The weights are not part of this project, and it has not been run with them:
the tests cover the arithmetic, the definition, and loading a file with the authors' names and shapes.
"""

import io
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load
from torch import Tensor, nn

from pipeline.common.options import SettingError
from pipeline.measure.iresnet import is_safetensors

FPS = 25
WINDOW = 5
"""Number of frames."""
REACH = 15
"""Offset in frames, in either direction."""
SIDE = 224
MARGIN = 0.4
"""Margin as a share of the box, as in the authors' crop."""


def _conv(dims: int, shapes: tuple[Any, ...]) -> list[nn.Module]:
    (given, made), kernel, stride, padding = shapes
    if dims == 2:
        return [nn.Conv2d(given, made, kernel, stride, padding), nn.BatchNorm2d(made), nn.ReLU()]
    return [nn.Conv3d(given, made, kernel, stride, padding), nn.BatchNorm3d(made), nn.ReLU()]


def _head() -> nn.Sequential:
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, 1024))


class SyncNet(nn.Module):
    """Both networks; modules are named and numbered as in the authors' file."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_conv(2, ((1, 64), (3, 3), (1, 1), (1, 1))),
            nn.MaxPool2d(1, 1),
            *_conv(2, ((64, 192), (3, 3), (1, 1), (1, 1))),
            nn.MaxPool2d(3, (1, 2)),
            *_conv(2, ((192, 384), (3, 3), (1, 1), (1, 1))),
            *_conv(2, ((384, 256), (3, 3), (1, 1), (1, 1))),
            *_conv(2, ((256, 256), (3, 3), (1, 1), (1, 1))),
            nn.MaxPool2d(3, 2),
            *_conv(2, ((256, 512), (5, 4), (1, 1), (0, 0))),
        )
        self.netfcaud = _head()
        self.netcnnlip = nn.Sequential(
            *_conv(3, ((3, 96), (5, 7, 7), (1, 2, 2), (0, 0, 0))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv(3, ((96, 256), (1, 5, 5), (1, 2, 2), (0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),
            *_conv(3, ((256, 256), (1, 3, 3), (1, 1, 1), (0, 1, 1))),
            *_conv(3, ((256, 256), (1, 3, 3), (1, 1, 1), (0, 1, 1))),
            *_conv(3, ((256, 256), (1, 3, 3), (1, 1, 1), (0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),
            *_conv(3, ((256, 512), (1, 6, 6), (1, 1, 1), (0, 0, 0))),
        )
        self.netfclip = _head()

    def sound(self, mfcc: Tensor) -> Tensor:
        """(N,1,13,20) -> (N,1024)."""
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def lips(self, pictures: Tensor) -> Tensor:
        """(N,3,5,224,224), BGR from 0 to 255 -> (N,1024)."""
        return self.netfclip(self.netcnnlip(pictures).flatten(1))


def load_syncnet(file: bytes) -> SyncNet:
    """Load the authors' weights `syncnet_v2.model`, or the same as safetensors; neither runs code that is in a file.

    Raises SettingError if the file is damaged, or if names or shapes differ.
    """
    network = SyncNet()
    try:
        if is_safetensors(file):
            state = load(file)
        else:
            state = torch.load(io.BytesIO(file), map_location="cpu", weights_only=True)
        network.load_state_dict(state)
    except Exception as error:  # errors of pickle, torch and safetensors, and about names and shapes
        raise SettingError(
            "syncnet", "the file does not contain SyncNet's weights, syncnet_v2.model of its authors: copy it again"
        ) from error
    return network.eval()


@torch.no_grad()
def sync_error(network: SyncNet, pictures: list[np.ndarray], wave: np.ndarray) -> tuple[float, float, int] | None:
    """(LSE-D, LSE-C, offset in frames) of faces from `cut_face` and their audio (samples at 16 kHz,) int16.

    None for less than a second.
    """
    cepstra = mfcc(wave)
    count = min(len(pictures), len(cepstra) // 4) - WINDOW
    if count < FPS:
        return None
    lips, sound = [], []
    for first in range(0, count, 10):
        number = range(first, min(first + 10, count))
        windows = np.stack([np.stack(pictures[n : n + WINDOW], axis=1) for n in number])
        lips.append(network.lips(torch.from_numpy(windows).float()))
        pieces = np.stack([cepstra[4 * n : 4 * n + 20].T[None] for n in number])
        sound.append(network.sound(torch.from_numpy(pieces)))
    return lip_sync_error(torch.cat(lips), torch.cat(sound))


def lip_sync_error(lips: Tensor, sound: Tensor, reach: int = REACH) -> tuple[float, float, int]:
    """Synchronous embeddings (N,1024) of both -> (LSE-D, LSE-C, offset in frames)."""
    padded = F.pad(sound, (0, 0, reach, reach))
    # As in the authors' code: `pairwise_distance` with its epsilon, and zeros beyond the ends.
    distances = torch.stack(
        [F.pairwise_distance(lips, padded[shift : shift + len(lips)]).mean() for shift in range(2 * reach + 1)]
    )
    least, place = distances.min(0)
    return float(least), float(distances.median() - least), reach - int(place)


def mfcc(wave: np.ndarray) -> np.ndarray:
    """(samples at 16 kHz,) int16 -> (100 per second, 13) float32, like python_speech_features with its defaults.

    Pre-emphasis 0.97, frames of 25 ms every 10 ms (rectangular), 512-point power spectrum, 26 triangular filters on the
    mel scale, logarithm, DCT-II (orthonormal), lifter 22; the first coefficient is the logarithm of the frame's energy.
    """
    if not len(wave):
        return np.zeros((0, 13), np.float32)
    signal = wave.astype(np.float64)
    signal = np.concatenate([signal[:1], signal[1:] - 0.97 * signal[:-1]])
    count = 1 + max(0, -(-(len(signal) - 400) // 160))
    signal = np.pad(signal, (0, max(0, (count - 1) * 160 + 400 - len(signal))))
    frames = np.lib.stride_tricks.sliding_window_view(signal, 400)[::160][:count]
    power = np.abs(np.fft.rfft(frames, 512)) ** 2 / 512
    energy = np.maximum(power.sum(1), np.finfo(float).eps)
    bands = np.maximum(power @ _mel_filters().T, np.finfo(float).eps)
    n, k = np.arange(26), np.arange(13)[:, None]
    dct = np.sqrt(2 / 26) * np.cos(np.pi * k * (2 * n + 1) / 52)
    dct[0] /= np.sqrt(2)
    found = np.log(bands) @ dct.T * (1 + 11 * np.sin(np.pi * np.arange(13) / 22))
    found[:, 0] = np.log(energy)
    return found.astype(np.float32)


def _mel_filters() -> np.ndarray:
    """(26,257): triangles whose corners are equally spaced on the mel scale from 0 to 8 kHz."""
    top = 2595 * np.log10(1 + 8000 / 700)
    corners = np.floor(513 * 700 * (10 ** (np.linspace(0, top, 28) / 2595) - 1) / 16000)
    bins = np.arange(257)
    filters = []
    for left, middle, right in zip(corners, corners[1:], corners[2:], strict=False):
        rise = (bins - left) / max(1.0, middle - left)
        fall = (right - bins) / max(1.0, right - middle)
        inside = (bins >= left) & (bins < right)
        filters.append(np.where(inside, np.where(bins < middle, rise, fall), 0.0))
    return np.stack(filters)


def cut_face(image: np.ndarray, centre: tuple[float, float], half: float) -> np.ndarray:
    """(H,W,3) RGB -> (3,224,224) uint8 BGR around a face, with more space below than above, and grey beyond the
    border.
    """
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() - 110
    _, _, height, width = pixels.shape
    x, y = centre
    side = 2 * half * (1 + MARGIN)
    left, top = x - half * (1 + MARGIN), y - half
    steps = (torch.arange(SIDE) + 0.5) / SIDE * side
    gx, gy = (left + steps) / width * 2 - 1, (top + steps) / height * 2 - 1
    grid = torch.stack(torch.meshgrid(gx, gy, indexing="xy"), dim=-1)[None]
    cut = F.grid_sample(pixels, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0] + 110
    return cut.flip(0).round().clamp(0, 255).to(torch.uint8).numpy()
