"""Speech -> condition, except for the two encoders (`models.speech_encoders`): windows, normalisation, projection."""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.config import SAMPLE_RATE, SAMPLES_PER_FRAME


@dataclass(frozen=True)
class SpeechWindow:
    """How long speech is split for the content and emotion encoders, so that memory stays bounded.

    Attention grows with the square of the length. Up to `seconds`, a clip is processed in one pass. Longer clips are
    processed in windows of `seconds`, each with `overlap_seconds` of context on both sides that is discarded. The
    result then differs slightly from a single pass: attention does not reach beyond its window, and a feature extractor
    with group norm (wav2vec2-base) normalises over the window instead of the clip.
    """

    seconds: float = 60.0
    overlap_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.overlap_seconds < 0 or self.seconds <= 2 * self.overlap_seconds:
            raise ValueError(
                f"seconds ({self.seconds}) must be more than twice the overlap ({self.overlap_seconds}), and the "
                "overlap cannot be negative"
            )

    def spans(self, frames: int) -> list[tuple[int, int, int, int]]:
        """Frame numbers (read from, keep from, keep to, read to) of each window; one window for a short clip."""
        size = round(self.seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
        if frames <= size:
            return [(0, 0, frames, frames)]
        context = round(self.overlap_seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
        count = -(-frames // (size - 2 * context))
        # Equal parts, so that no window has only a few samples.
        edges = [i * frames // count for i in range(count + 1)]
        return [(max(0, start - context), start, end, min(frames, end + context)) for start, end in pairwise(edges)]


def speech_frames(samples: int) -> int:
    """T = ceil(samples * 25 / 16000)."""
    return -(-samples // SAMPLES_PER_FRAME)


def normalize_waveform(wave: Tensor) -> Tensor:
    """Zero mean and unit variance over the whole clip, (B,samples), like Wav2Vec2FeatureExtractor."""
    return (wave - wave.mean(-1, keepdim=True)) / torch.sqrt(wave.var(-1, keepdim=True, correction=0) + 1e-7)


class SpeechProjection(nn.Module):
    """Content features -> speech latent w_a: Linear, LayerNorm, SiLU."""

    def __init__(self, content_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(content_dim, latent_dim)
        self.norm = nn.LayerNorm(latent_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B,T,content_dim) -> (B,T,D)."""
        return F.silu(self.norm(self.linear(hidden)))
