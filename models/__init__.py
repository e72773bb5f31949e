"""FLOAT in PyTorch: portrait and speech in, frames out. Imports neither Ray nor `pipeline`."""

from models.autoencoder import Portrait
from models.checkpoint import ModelFolder, SpeechEncoders, load_float, load_speech_encoders, save_model
from models.config import EMOTIONS, MOTION_FPS, SAMPLE_RATE, FloatConfig
from models.float import FLOAT, window_noise
from models.speech import ContentEncoder, EmotionEncoder, SpeechWindow

__all__ = [
    "EMOTIONS",
    "FLOAT",
    "MOTION_FPS",
    "SAMPLE_RATE",
    "ContentEncoder",
    "EmotionEncoder",
    "FloatConfig",
    "ModelFolder",
    "Portrait",
    "SpeechEncoders",
    "SpeechWindow",
    "load_float",
    "load_speech_encoders",
    "save_model",
    "window_noise",
]
