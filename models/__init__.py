"""FLOAT in PyTorch: portrait and speech in, frames out. Imports neither Ray nor `pipeline`.

Encoders of speech are in `models.encoders`, which needs transformers and takes seconds to import.
"""

from models.autoencoder import Portrait
from models.config import EMOTIONS, MOTION_FPS, SAMPLE_RATE, FloatConfig
from models.float import FLOAT, window_noise
from models.model_folder import ModelFolder, load_float, save_model
from models.speech import SpeechWindow

__all__ = [
    "EMOTIONS",
    "FLOAT",
    "MOTION_FPS",
    "SAMPLE_RATE",
    "FloatConfig",
    "ModelFolder",
    "Portrait",
    "SpeechWindow",
    "load_float",
    "save_model",
    "window_noise",
]
