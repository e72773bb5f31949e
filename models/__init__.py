"""FLOAT in PyTorch: portrait and speech in, frames out. Imports neither Ray nor `pipeline`.

Encoders of speech are in `models.encoders`, which needs transformers and takes seconds to import.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from models.config import EMOTIONS, MOTION_FPS, SAMPLE_RATE, FloatConfig

if TYPE_CHECKING:
    from models.autoencoder import Portrait
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

_MODULES = {
    "FLOAT": "float",
    "ModelFolder": "model_folder",
    "Portrait": "autoencoder",
    "SpeechWindow": "speech",
    "load_float": "model_folder",
    "save_model": "model_folder",
    "window_noise": "float",
}


def __getattr__(name: str) -> Any:
    """Import a module when it is first used: processes that only decode files need the constants, and no PyTorch."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"models.{_MODULES[name]}"), name)
