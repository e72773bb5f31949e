"""Speech -> condition: content features per frame and one emotion vector per clip.

Both encoders are wav2vec2 models in Hugging Face folders and are loaded by `from_pretrained` only: it knows how
weight-norm names changed between versions.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2PreTrainedModel

from models.config import SAMPLE_RATE, SAMPLES_PER_FRAME


@dataclass(frozen=True)
class SpeechWindow:
    """How long speech is cut for the content and emotion encoders, so that memory stays bounded.

    Attention grows with the square of the length. Up to `seconds` a clip goes through in one pass; above it, in
    windows of `seconds`, each with `overlap_seconds` of context on both sides that is thrown away. The result
    then differs a little from one pass: attention does not reach beyond its window, and a group-norm feature
    extractor (wav2vec2-base) normalises over the window and no longer over the clip.
    """

    seconds: float = 60.0
    overlap_seconds: float = 2.0

    def __post_init__(self) -> None:
        if self.overlap_seconds < 0 or self.seconds <= 2 * self.overlap_seconds:
            raise ValueError(
                f"seconds ({self.seconds}) must exceed two overlaps ({self.overlap_seconds}), "
                "and an overlap cannot be negative"
            )

    def spans(self, frames: int) -> list[tuple[int, int, int, int]]:
        """Frame numbers (read from, keep from, keep to, read to) of each window; one window for a short clip."""
        size = round(self.seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
        if frames <= size:
            return [(0, 0, frames, frames)]
        context = round(self.overlap_seconds * SAMPLE_RATE / SAMPLES_PER_FRAME)
        count = -(-frames // (size - 2 * context))
        # Equal shares, so that no window is a rest of a few samples.
        edges = [i * frames // count for i in range(count + 1)]
        return [(max(0, start - context), start, end, min(frames, end + context)) for start, end in pairwise(edges)]


def speech_frames(samples: int) -> int:
    """T = ceil(samples * 25 / 16000)."""
    return -(-samples // SAMPLES_PER_FRAME)


def normalize_waveform(wave: Tensor) -> Tensor:
    """Zero mean and unit variance over the whole clip, (B,samples), as Wav2Vec2FeatureExtractor does."""
    return (wave - wave.mean(-1, keepdim=True)) / torch.sqrt(wave.var(-1, keepdim=True, correction=0) + 1e-7)


class ContentEncoder(nn.Module):
    """wav2vec2 resampled to the frame rate of the video."""

    def __init__(self, wav2vec2: Wav2Vec2Model) -> None:
        super().__init__()
        self.wav2vec2 = wav2vec2

    @property
    def dim(self) -> int:
        """Channels of the output: all layers' hidden sizes together."""
        return self.wav2vec2.config.num_hidden_layers * self.wav2vec2.config.hidden_size

    def forward(self, wave: Tensor, window: SpeechWindow | None = None) -> Tensor:
        """Normalised wave (B,samples) -> outputs of all layers (B,T,layers*hidden), first layer first."""
        return torch.cat(list(self.windows(wave, window)), dim=1)

    def windows(self, wave: Tensor, window: SpeechWindow | None = None) -> Iterator[Tensor]:
        """What `forward` gives, in parts (B,frames of the window,layers*hidden), each computed when it is asked for.

        For those who make it smaller at once: an hour of the released model's 9216 channels is 3.3 GB.
        """
        frames = speech_frames(wave.shape[-1])
        # The last frame is completed by repeating the last sample.
        missing = frames * SAMPLES_PER_FRAME - wave.shape[-1]
        wave = F.pad(wave[:, None], (0, missing), mode="replicate")[:, 0]
        for read, keep, keep_end, read_end in (window or SpeechWindow()).spans(frames):
            piece = wave[:, read * SAMPLES_PER_FRAME : read_end * SAMPLES_PER_FRAME]
            yield self._one_pass(piece, read_end - read)[:, keep - read : keep_end - read]

    def _one_pass(self, wave: Tensor, frames: int) -> Tensor:
        model = self.wav2vec2
        features = model.feature_extractor(wave)  # (B,C,about 2 T)
        features = F.interpolate(features, size=frames, mode="linear", align_corners=True)
        hidden, _ = model.feature_projection(features.transpose(1, 2))
        # transformers 4 returns the hidden states here, 5 only from the whole model: hooks work in both.
        outputs: list[Tensor] = []
        hooks = [layer.register_forward_hook(_collector(outputs)) for layer in model.encoder.layers[:-1]]
        try:
            outputs.append(model.encoder(hidden).last_hidden_state)
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(outputs, dim=-1)


def _collector(outputs: list[Tensor]) -> Callable[[nn.Module, Any, Any], None]:
    def collect(layer: nn.Module, inputs: Any, output: Any) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)

    return collect


class EmotionEncoder(Wav2Vec2PreTrainedModel):
    """Speech emotion classifier in the layout of r-f/wav2vec-english-speech-emotion-recognition."""

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        self.wav2vec2 = Wav2Vec2Model(config)
        self.classifier = nn.ModuleDict(
            {
                "dense": nn.Linear(config.hidden_size, config.hidden_size),
                "out_proj": nn.Linear(config.hidden_size, config.num_labels),
            }
        )
        self.post_init()

    def forward(self, wave: Tensor, window: SpeechWindow | None = None) -> Tensor:
        """Normalised wave (B,samples) -> probabilities w_e (B,7) in the order of `EMOTIONS`."""
        mean = self.mean_hidden(wave, window or SpeechWindow())
        logits = self.classifier["out_proj"](torch.tanh(self.classifier["dense"](mean)))
        return logits.float().softmax(-1)  # autocast may have made them bfloat16

    def mean_hidden(self, wave: Tensor, window: SpeechWindow) -> Tensor:
        """Last hidden states averaged over the clip (B,hidden): window by window where it is long."""
        # The feature extractor needs 400 samples to give one vector.
        wave = F.pad(wave[:, None], (0, max(0, SAMPLES_PER_FRAME - wave.shape[-1])), mode="replicate")[:, 0]
        frames = speech_frames(wave.shape[-1])
        total = torch.zeros((), device=wave.device)
        for _, keep, keep_end, _ in window.spans(frames):
            piece = wave[:, keep * SAMPLES_PER_FRAME : keep_end * SAMPLES_PER_FRAME]
            mean = self.wav2vec2(piece).last_hidden_state.mean(1, dtype=torch.float32)
            total = total + mean * (keep_end - keep) / frames
        return total


class SpeechProjection(nn.Module):
    """Content features -> speech latent w_a: Linear, LayerNorm, SiLU."""

    def __init__(self, content_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(content_dim, latent_dim)
        self.norm = nn.LayerNorm(latent_dim)

    def forward(self, hidden: Tensor) -> Tensor:
        """(B,T,content_dim) -> (B,T,D)."""
        return F.silu(self.norm(self.linear(hidden)))
