"""The two speech encoders: content features per frame, and one emotion vector per clip.

Both are wav2vec2 models in Hugging Face folders and are loaded only by `from_pretrained`, which knows how the names of
weight norm changed between versions.

Importing transformers takes seconds, so code that only renders or plans does not import this file or `models.encoders`.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AttentionInterface, Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2FeedForward
from transformers.utils import logging as transformers_logging

from models.config import SAMPLES_PER_FRAME
from models.fast.native import NativeError, has_native, library, quantise_rows
from models.int8 import Int8Linear, Integers
from models.speech import SpeechWindow, speech_frames

QUERY_KEY_VALUE = ("q_proj", "k_proj", "v_proj")
"""Layers of an attention, in the order in which it calls them, all with the same input."""


logger = logging.getLogger(__name__)

ATTENTION = "floatcast_products"
"""Name of `attention_in_products` among those of transformers."""

QUERIES = 512
"""How many queries are computed together, so that the products of long speech need no more memory."""

PROBE = torch.linspace(-3, 3, 13)
"""Where activations are compared."""


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
    linear = _QuickLinear if _has_passes() else Int8Linear
    for layer in list(wav2vec2.modules()):
        together = [getattr(layer, name, None) for name in QUERY_KEY_VALUE]
        if all(isinstance(child, nn.Linear) for child in together):
            joined = _Joined(cast(list[nn.Linear], together), linear)
            for number, name in enumerate(QUERY_KEY_VALUE):
                setattr(layer, name, _Part(joined, number))
            if isinstance(config := getattr(layer, "config", None), Wav2Vec2Config):
                config._attn_implementation = ATTENTION
        for name, child in list(layer.named_children()):
            if isinstance(child, Wav2Vec2FeedForward) and linear is _QuickLinear and _is_gelu(child):
                setattr(layer, name, _FeedForward(child))
            elif isinstance(child, nn.Linear):
                setattr(layer, name, linear(child))


def _has_passes() -> bool:
    try:
        return has_native() and library() is not None
    except NativeError as error:
        logger.warning("speech is encoded without passes in C++: %s", error)
        return False


def attention_in_products(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
) -> tuple[Tensor, None]:
    """Attention (B,H,T,C) -> (B,T,H,C) as two products with a softmax between them, which take half of the time of
    PyTorch's kernel on a CPU where products are those of bfloat16; otherwise as PyTorch does it.
    """
    if mask is not None or not torch.is_autocast_enabled("cpu") or query.device.type != "cpu":
        result: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, mask, **settings)
        return result
    key = key.transpose(-1, -2)
    parts = [torch.softmax((some * settings["scaling"]) @ key, -1) @ value for some in query.split(QUERIES, 2)]
    return torch.cat(parts, 2).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, attention_in_products)


def _is_gelu(layer: Wav2Vec2FeedForward) -> bool:
    return torch.equal(layer.intermediate_act_fn(PROBE), F.gelu(PROBE))


class _QuickLinear(Int8Linear):
    """`Int8Linear` whose integers are made by the passes in C++."""

    def integers(self, x: Tensor) -> Integers:
        """See `Int8Linear`."""
        return Integers(*quantise_rows(x.flatten(0, -2).float().contiguous()))


class _FeedForward(nn.Module):
    """Both linear layers between which there is a GELU, made in one pass with the integers of its results."""

    def __init__(self, source: Wav2Vec2FeedForward) -> None:
        super().__init__()
        self.first, self.second = _QuickLinear(source.intermediate_dense), _QuickLinear(source.output_dense)

    def forward(self, x: Tensor) -> Tensor:
        """(...,I) -> (...,I)."""
        tokens = self.first.integers(x)
        activated = quantise_rows(self.first.raw(tokens.values), tokens.unit, self.first.bias)
        return self.second.product(Integers(*activated)).to(x.dtype).unflatten(0, x.shape[:-1])


class _Joined:
    """Linear layers of the same input, computed together when the first of them is asked for."""

    def __init__(self, layers: Sequence[nn.Linear], linear: type[Int8Linear]) -> None:
        source = nn.Linear(layers[0].in_features, sum(layer.out_features for layer in layers), device="meta")
        source.weight = nn.Parameter(torch.cat([layer.weight for layer in layers]), requires_grad=False)
        source.bias = nn.Parameter(torch.cat([layer.bias for layer in layers]), requires_grad=False)
        self.linear, self.widths = linear(source), [layer.out_features for layer in layers]
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
