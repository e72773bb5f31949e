"""A complete model of a few thousand parameters, 32 px, with random weights: fast enough to render in every test."""

from pathlib import Path

import torch

from models import FLOAT, FloatConfig, ModelFolder, save_model
from models.checkpoint import load_content_encoder, load_emotion_encoder

DATA = Path(__file__).parent / "data"

CONFIG = FloatConfig(
    channels=(16, 16, 16, 8), latent_dim=16, directions=6, content_dim=96, hidden_dim=32, blocks=2, heads=2
)


def save_tiny_model(path: Path) -> ModelFolder:
    torch.manual_seed(0)
    content = load_content_encoder(DATA / "tiny_wav2vec2")
    emotion = load_emotion_encoder(DATA / "tiny_ser")
    return save_model(path, FLOAT(CONFIG).eval(), content, emotion, name="tiny", licence="test", trained=False)
