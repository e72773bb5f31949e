"""Rendering for the study: portrait and audio -> frames, with the plain model, like jobs.render in reference mode.

There is no crop, no encoder and no file: the model is measured on the pixels that it generates.
"""

import numpy as np
import torch
from torch import Tensor

from models import EMOTIONS, FLOAT, ModelFolder, Portrait
from models.encoders import load_face_emotion, load_speech_encoders
from models.pixels import to_images, to_tensor
from models.sampling import default_nfe
from pipeline.research.study.clips import StudyError
from pipeline.research.study.settings import SpeechSettings

BATCH = 16
"""Number of frames that are decoded together."""


def one_hot(emotion: str) -> np.ndarray:
    """w_e (7,) float32 of a single emotion."""
    return np.array([name == emotion for name in EMOTIONS], dtype=np.float32)


class Renderer:
    """A model with its speech encoders."""

    def __init__(self, folder: ModelFolder, model: FLOAT, settings: SpeechSettings, device: str = "cpu") -> None:
        self.model, self._settings, self._device = model, settings, device
        self._encoders = load_speech_encoders(folder, device)
        self._face_emotion = load_face_emotion(folder, device) if folder.config.emotion == "image" else None
        if folder.config.emotion == "image" and self._face_emotion is None:
            raise StudyError(
                "model_incomplete", f"{folder.path} has no face emotion classifier: copy or create the model again"
            )

    def portrait(self, picture: np.ndarray) -> Portrait:
        """The portrait of one image (S,S,3) uint8."""
        return self.model.encode_portrait(to_tensor(picture[None]).to(self._device))

    @torch.no_grad()
    def predicted_emotion(self, wave: np.ndarray) -> np.ndarray:
        """w_e (7,) that the model's own classifier predicts for int16 samples at 16 kHz."""
        return self._encoders.emotion(self._sound(wave))[0].cpu().numpy()

    @torch.no_grad()
    def frames(
        self,
        picture: np.ndarray,
        wave: np.ndarray,
        *,
        seed: int,
        emotion: np.ndarray | None = None,
        emotion_scale: float | None = None,
        pose: np.ndarray | None = None,
    ) -> np.ndarray:
        """The portrait (S,S,3) uint8 says `wave`: (T,S,S,3) uint8, one frame for each 640 of its samples.

        Args:
            wave: int16 at 16 kHz.
            emotion: w_e (7,); None uses what the model predicts from speech or from the portrait.
            emotion_scale: None uses that of the settings.
            pose: (T,6), for a model with that condition.
        """
        portrait = self.portrait(picture)
        config, settings = self.model.config, self._settings
        motion = self.model.sample_motion(
            self._encoders.speech(self._sound(wave)),
            portrait.motion,
            torch.from_numpy(self._emotion(picture, wave, emotion))[None].to(self._device),
            nfe=settings.nfe or default_nfe(config.objective),
            audio_scale=settings.audio_scale,
            emotion_scale=settings.emotion_scale if emotion_scale is None else emotion_scale,
            pose=self._pose(pose),
            seeds=[seed],
        )[0]
        return np.concatenate([to_images(self.model.decode(portrait, part)) for part in motion.split(BATCH)])

    def driven(self, true_frames: np.ndarray) -> np.ndarray:
        """The video (T,S,S,3) uint8 reconstructed from its first frame and all motion codes: the upper bound for
        sampling.
        """
        portrait = self.portrait(true_frames[0])
        parts = [to_tensor(true_frames[at : at + BATCH]).to(self._device) for at in range(0, len(true_frames), BATCH)]
        motion = [self.model.encode_portrait(part).motion for part in parts]
        return np.concatenate([to_images(self.model.decode(portrait, part)) for part in motion])

    def _emotion(self, picture: np.ndarray, wave: np.ndarray, named: np.ndarray | None) -> np.ndarray:
        if named is not None:
            return named.astype(np.float32)
        if self.model.config.emotion == "none":
            return np.zeros(len(EMOTIONS), np.float32)
        if self._face_emotion is not None:
            return self._face_emotion(to_tensor(picture[None]).to(self._device))[0].cpu().numpy()
        return self.predicted_emotion(wave)

    def _pose(self, pose: np.ndarray | None) -> Tensor | None:
        if self.model.config.pose == "none":
            return None
        if pose is None:
            raise StudyError("pose_missing", "the model is conditioned on head poses, but none were given")
        return torch.from_numpy(pose.copy())[None].to(self._device)

    def _sound(self, wave: np.ndarray) -> Tensor:
        return torch.from_numpy(wave.astype(np.float32) / 2**15)[None].to(self._device)
