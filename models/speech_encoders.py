"""The two speech encoders: content features per frame, and one emotion vector per clip.

Both are wav2vec2 models in Hugging Face folders and are loaded only by `from_pretrained`, which knows how the names of
weight norm changed between versions.

Importing transformers takes seconds, so code that only renders or plans does not import this file or `models.encoders`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2PreTrainedModel
from transformers.utils import logging as transformers_logging

from models.config import SAMPLES_PER_FRAME
from models.int8 import Int8Linear
from models.speech import SpeechWindow, speech_frames

QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")
"""Layers of an attention, in the order in which it calls them, all with the same input."""


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Show no progress bar, and no table of the heads that a bare encoder does not load from a checkpoint."""
    level, bar = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bar:
            transformers_logging.enable_progress_bar()


def keep_grouped_convolutions_exact(wav2vec2: nn.Module) -> None:
    """Exclude from autocast the convolutions that CPUs with AMX compute wrongly in bfloat16.

    These are grouped convolutions whose groups do not have a multiple of 16 channels: the result of oneDNN in PyTorch
    2.13 is silently 80 % off. Those of the released model have 48 channels and stay as fast as they were.
    """
    for conv in wav2vec2.modules():
        if isinstance(conv, nn.Conv1d) and conv.groups > 1 and conv.in_channels // conv.groups % 16:
            conv.forward = _in_float32(conv.forward)  # type: ignore[assignment, method-assign]


def _in_float32(forward: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    def exact(x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return forward(x.float())

    return exact


def use_int8(wav2vec2: nn.Module) -> None:
    """Replace the linear layers of the transformer, which are most of the arithmetic, by `Int8Linear`."""
    for layer in list(wav2vec2.modules()):
        together = [getattr(layer, name, None) for name in QUERY_KEY_VALUE]
        if all(isinstance(child, nn.Linear) for child in together):
            joined = _Joined(cast(list[nn.Linear], together))
            for number, name in enumerate(QUERY_KEY_VALUE):
                setattr(layer, name, _Part(joined, number))
        for name, child in list(layer.named_children()):
            if isinstance(child, nn.Linear):
                setattr(layer, name, Int8Linear(child))


class _Joined:
    """Linear layers of the same input, computed together when the first of them is asked for."""

    def __init__(self, layers: Sequence[nn.Linear]) -> None:
        source = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), device="meta")
        source.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
        source.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), requires_grad=False)
        self.linear, self.widths = Int8Linear(source), [layer.out_features for layer in layers]
        self._kept: tuple[Tensor, tuple[Tensor, ...]] | None = None

    def part(self, x: Tensor, number: int) -> Tensor:
        """The result of one of the layers; the last one lets go of what is kept."""
        kept = self._kept
        if kept is None or kept[0] is not x:
            kept = x, self.linear(x).split(self.widths, dim=-1)
        self._kept = None if number == len(self.widths) - 1 else kept
        return kept[1][number]


class _Part(nn.Module):
    """One of the layers of a `_Joined`."""

    def __init__(self, joined: _Joined, number: int) -> None:
        super().__init__()
        self.joined, self.number = joined, number

    def forward(self, x: Tensor) -> Tensor:
        """(...,I) -> (...,O)."""
        return self.joined.part(x, self.number)


class ContentEncoder(nn.Module):
    """wav2vec2 resampled to the frame rate of the video."""

    def __init__(self, wav2vec2: Wav2Vec2Model) -> None:
        super().__init__()
        self.wav2vec2 = wav2vec2

    def save(self, folder: Path) -> None:
        """Write the encoder in Hugging Face layout."""
        with quiet_transformers():
            self.wav2vec2.save_pretrained(folder)

    @property
    def dim(self) -> int:
        """Number of output channels: the hidden sizes of all layers together."""
        return self.wav2vec2.config.num_hidden_layers * self.wav2vec2.config.hidden_size

    def forward(self, wave: Tensor, window: SpeechWindow | None = None) -> Tensor:
        """Normalised wave (B,samples) -> outputs of all layers (B,T,layers*hidden), first layer first."""
        return torch.cat(list(self.windows(wave, window)), dim=1)

    def windows(self, wave: Tensor, window: SpeechWindow | None = None) -> Iterator[Tensor]:
        """The result of `forward` in parts (B,frames of the window,layers*hidden), each computed when it is needed.

        This is for callers that reduce it at once: an hour of the released model's 9216 channels takes 3.3 GB.
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
        return logits.float().softmax(-1)  # autocast may have computed them in bfloat16

    def save(self, folder: Path) -> None:
        """Write the classifier in Hugging Face layout."""
        with quiet_transformers():
            self.save_pretrained(folder)

    def mean_hidden(self, wave: Tensor, window: SpeechWindow) -> Tensor:
        """Last hidden states averaged over the clip (B,hidden), window by window if it is long."""
        # The feature extractor needs 400 samples for one vector.
        wave = F.pad(wave[:, None], (0, max(0, SAMPLES_PER_FRAME - wave.shape[-1])), mode="replicate")[:, 0]
        frames = speech_frames(wave.shape[-1])
        total = torch.zeros((), device=wave.device)
        for _, keep, keep_end, _ in window.spans(frames):
            piece = wave[:, keep * SAMPLES_PER_FRAME : keep_end * SAMPLES_PER_FRAME]
            mean = self.wav2vec2(piece).last_hidden_state.mean(1, dtype=torch.float32)
            total = total + mean * (keep_end - keep) / frames
        return total
