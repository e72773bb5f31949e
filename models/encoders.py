"""The encoders of conditions in a model folder: speech, and emotion in the portrait."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import Wav2Vec2Model

from models.config import EMOTIONS
from models.face_emotion import FaceEmotionEncoder
from models.model_folder import CONTENT_FOLDER, EMOTION_FOLDER, FACE_EMOTION_FOLDER, WEIGHTS_FILE, ModelFolder
from models.speech import SpeechProjection, SpeechWindow, normalize_waveform
from models.speech_encoders import (
    ContentEncoder,
    EmotionEncoder,
    keep_grouped_convolutions_exact,
    quiet_transformers,
    use_int8,
)


@dataclass
class SpeechEncoders:
    """Everything between a waveform and a condition, as held by a feature worker.

    `dtype` is that of autocast; weights, waveforms and results are always float32. With `int8`, the linear layers of
    the transformers multiply integers instead.
    """

    content: ContentEncoder
    projection: SpeechProjection
    emotion_folder: Path
    dtype: torch.dtype = torch.float32
    _emotion: EmotionEncoder | None = None
    int8: bool = False

    @torch.no_grad()
    def speech(self, wave: Tensor, window: SpeechWindow | None = None) -> Tensor:
        """Raw wave (B,samples) at 16 kHz -> w_a (B,T,D)."""
        wave = normalize_waveform(wave)
        with self._autocast():
            # Window by window, because the content features of long speech together take gigabytes.
            parts = [self.projection(hidden).float() for hidden in self.content.windows(wave, window)]
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def emotion(self, wave: Tensor, window: SpeechWindow | None = None) -> Tensor:
        """Raw wave (B,samples) at 16 kHz -> w_e (B,7).

        The classifier (1.3 GB for the released model) is loaded at the first call, because many jobs give every
        emotion.
        """
        if self._emotion is None:
            self._emotion = load_emotion_encoder(self.emotion_folder).to(self.device)
            if self.dtype != torch.float32:
                keep_grouped_convolutions_exact(self._emotion)
            if self.int8:
                use_int8(self._emotion.wav2vec2.encoder)
        wave = normalize_waveform(wave)
        with self._autocast():
            return self._emotion(wave, window)

    @property
    def device(self) -> torch.device:
        """Device of the encoders, on which waveforms are expected."""
        return self.projection.linear.weight.device

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)


def load_speech_encoders(
    folder: ModelFolder, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, *, int8: bool = False
) -> SpeechEncoders:
    """Load only what turns speech into conditions: the auto-encoder and the transformer stay on disk."""
    projection = SpeechProjection(folder.config.content_dim, folder.config.latent_dim)
    prefix = "speech_projection."
    with safe_open(folder.path / WEIGHTS_FILE, "pt") as file:
        state = {
            name.removeprefix(prefix): file.get_tensor(name)
            for name in file.keys()  # noqa: SIM118 - not a mapping
            if name.startswith(prefix)
        }
    projection.load_state_dict(state)
    content = load_content_encoder(folder.path / CONTENT_FOLDER).to(device)
    if dtype != torch.float32:
        keep_grouped_convolutions_exact(content)
    if int8:
        use_int8(content.wav2vec2.encoder)
    return SpeechEncoders(content, projection.eval().to(device), folder.path / EMOTION_FOLDER, dtype, int8=int8)


def load_content_encoder(source: str | Path) -> ContentEncoder:
    """Content encoder from a local folder or a Hugging Face id."""
    with quiet_transformers():
        return ContentEncoder(Wav2Vec2Model.from_pretrained(source)).eval()


def load_emotion_encoder(source: str | Path) -> EmotionEncoder:
    """Emotion classifier from a local folder or a Hugging Face id. Raises ValueError if its labels differ from ours."""
    with quiet_transformers():
        model = EmotionEncoder.from_pretrained(source).eval()
    labels = tuple(model.config.id2label[i] for i in range(model.config.num_labels))
    if labels != EMOTIONS:
        raise ValueError(f"{source} classifies {', '.join(labels)}; the model needs {', '.join(EMOTIONS)}, in order")
    return model


def load_face_emotion(folder: ModelFolder, device: str | torch.device = "cpu") -> FaceEmotionEncoder | None:
    """The face emotion classifier on `device`, in eval mode; None if the folder has none."""
    if not (folder.path / FACE_EMOTION_FOLDER).is_dir():
        return None
    with quiet_transformers():
        return FaceEmotionEncoder(folder.path / FACE_EMOTION_FOLDER).eval().to(device)
