"""The two networks with random weights, and the heads for training the content encoder."""

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
"""Like wav2vec2's, but with 3 instead of 2 at the end. A vector then covers 640 samples, which is a whole frame at 25
fps, because the renderer uses every second vector.
"""


def config(size: SizeSettings) -> Wav2Vec2Config:
    """A small version of wav2vec2-base's architecture."""
    return Wav2Vec2Config(
        hidden_size=size.hidden,
        intermediate_size=3 * size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        conv_dim=tuple(size.channels),
        conv_kernel=KERNELS,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
        # Its own masking draws from NumPy's global state, and layer dropout would leave features out.
        apply_spec_augment=False,
        layerdrop=0.0,
        id2label=dict(enumerate(EMOTIONS)),
    )


class PhonemeModel(nn.Module):
    """Content encoder with a linear head on each layer that predicts the phoneme of each frame."""

    def __init__(self, content: ContentEncoder, symbols: int) -> None:
        super().__init__()
        self.content = content
        hidden = content.wav2vec2.config.hidden_size
        self.heads = nn.ModuleList(nn.Linear(hidden, symbols) for _ in range(content.wav2vec2.config.num_hidden_layers))

    def forward(self, wave: Tensor) -> list[Tensor]:
        """Normalised wave (B,samples) -> logits (B,T,K) of each layer, in the order of the layers."""
        layers = self.content(wave).chunk(len(self.heads), dim=-1)
        return [head(layer) for head, layer in zip(self.heads, layers, strict=True)]


def new_phoneme_model(size: SizeSettings, symbols: int, seed: int, start: ContentEncoder | None = None) -> PhonemeModel:
    """A model with random weights that depend on the seed, or with random heads on a copy of an encoder of that size.

    Raises RuntimeError if `start` has another size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = PhonemeModel(ContentEncoder(Wav2Vec2Model(config(size))), symbols)
    if start is not None:
        model.content.wav2vec2.load_state_dict(start.wav2vec2.state_dict())
    return model


def new_emotion_encoder(size: SizeSettings, seed: int, start: ContentEncoder | None) -> EmotionEncoder:
    """An encoder with random weights, or with a copy of the content encoder's below a random classifier."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed + 1)
        model = EmotionEncoder(config(size))
    if start is not None:
        model.wav2vec2.load_state_dict(start.wav2vec2.state_dict())
    return model


def load_phoneme_model(
    content_encoder: str | Path, head: str | Path, symbols: str | Path
) -> tuple[PhonemeModel, list[str]]:
    """(model, symbols) from files of `jobs.research.encoders`: content_encoder/, phoneme_head.safetensors,
    phonemes.json.

    Only the head of the last layer is stored: the others have random weights.
    """
    known = json.loads(Path(symbols).read_text())
    model = PhonemeModel(load_content_encoder(content_encoder), len(known))
    model.heads[-1].load_state_dict(load_file(head))
    return model.eval(), known
