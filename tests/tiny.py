"""A complete model of a few thousand parameters, 32 px, with random weights: fast enough to render in every test."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch

from models import EMOTIONS, FLOAT, FloatConfig, ModelFolder, save_model

DATA = Path(__file__).parent / "data"

CONFIG = FloatConfig(
    channels=(16, 16, 16, 8), latent_dim=16, directions=6, content_dim=96, hidden_dim=32, blocks=2, heads=2
)


def save_tiny_model(path: Path, face_emotion: Path | None = None, **variant: Any) -> ModelFolder:
    """`variant`: fields of `FloatConfig` that are to differ."""
    from models.encoders import load_content_encoder, load_emotion_encoder  # seconds, for transformers

    torch.manual_seed(0)
    content = load_content_encoder(DATA / "tiny_wav2vec2")
    emotion = load_emotion_encoder(DATA / "tiny_ser")
    model = FLOAT(dataclasses.replace(CONFIG, **variant)).eval()
    return save_model(
        path, model, content, emotion, name="tiny", licence="test", trained=False, face_emotion=face_emotion
    )


def save_tiny_face_emotion(path: Path) -> Path:
    """A face emotion classifier in Hugging Face layout, with random weights and the labels in an order of its own."""
    from transformers import ViTConfig, ViTForImageClassification

    torch.manual_seed(0)
    config = ViTConfig(
        image_size=16,
        patch_size=8,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        id2label=dict(enumerate(reversed(EMOTIONS))),
        initializer_range=0.5,
    )
    ViTForImageClassification(config).save_pretrained(path)
    (path / "preprocessor_config.json").write_text(json.dumps({"size": {"height": 16, "width": 16}}))
    return path
