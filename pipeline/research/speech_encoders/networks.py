"""The two networks, with random weights, and what is put on the content encoder to train it."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import Wav2Vec2Config, Wav2Vec2Model

from models import EMOTIONS
from models.encoders import load_content_encoder
from models.speech_encoders import ContentEncoder, EmotionEncoder
from pipeline.research.speech_encoders.settings import SizeSettings

KERNELS = (10, 3, 3, 3, 3, 3, 3)
"""wav2vec2's, but 3 instead of 2 at the end: a vector then sees 640 samples, all of a frame at 25 fps, as the renderer
takes every second vector."""


def config(size: SizeSettings) -> Wav2Vec2Config:
    """wav2vec2-base's architecture in small."""
    return Wav2Vec2Config(
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        conv_dim=tuple(size.channels),
        conv_kernel=KERNELS,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        # Its own maskings draw from NumPy's global state, and dropped layers would leave features out.
        apply_spec_augment=False,
        layerdrop=0.0,
        id2label=dict(enumerate(EMOTIONS)),
    )


class PhonemeModel(nn.Module):
    """Content encoder with a linear head on each layer, which tells the phoneme of each frame."""

    def __init__(self, content: ContentEncoder, symbols: int) -> None:
        super().__init__()
        self.content = content
        hidden = content.wav2vec2.config.hidden_size
        self.heads = nn.ModuleList(nn.Linear(hidden, symbols) for _ in range(content.wav2vec2.config.num_hidden_layers))

    def forward(self, wave: Tensor) -> list[Tensor]:
        """Normalised wave (B,samples) -> logits (B,T,K) of each layer, the last layer's last."""
        layers = self.content(wave).chunk(len(self.heads), dim=-1)
        return [head(layer) for head, layer in zip(self.heads, layers, strict=True)]


def new_phoneme_model(size: SizeSettings, symbols: int, seed: int, start: ContentEncoder | None = None) -> PhonemeModel:
    """With random weights, the same for the same seed, or random heads on a copy of an encoder of that size.

    Raises RuntimeError where `start` is of another size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PhonemeModel(ContentEncoder(Wav2Vec2Model(config(size))), symbols)
    if start is not None:
        model.content.wav2vec2.load_state_dict(start.wav2vec2.state_dict())
    return model


def new_emotion_encoder(size: SizeSettings, seed: int, start: ContentEncoder | None) -> EmotionEncoder:
    """With random weights, or with a copy of the content encoder's below a classifier with random ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        model = EmotionEncoder(config(size))
    if start is not None:
        model.wav2vec2.load_state_dict(start.wav2vec2.state_dict())
    return model


def load_phoneme_model(
    content_encoder: str | Path, head: str | Path, symbols: str | Path
) -> tuple[PhonemeModel, list[str]]:
    """(model, symbols) from what `jobs.research.encoders` wrote: content_encoder/, phoneme_head.safetensors,
    phonemes.json.

    Only the last layer's head was kept: the others have random weights.
    """
    known = json.loads(Path(symbols).read_text())
    model = PhonemeModel(load_content_encoder(content_encoder), len(known))
    model.heads[-1].load_state_dict(load_file(head))
    return model.eval(), known
