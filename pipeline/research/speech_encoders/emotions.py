"""The emotion classifier: one of seven emotions per clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models import EMOTIONS, MOTION_FPS
from models.speech_encoders import EmotionEncoder
from pipeline.evaluation.bootstrap import interval
from pipeline.research.corpus.prosody import pitches
from pipeline.research.speech_encoders.corpus import Clip
from pipeline.research.speech_encoders.phonemes import as_tensor

STRONG = 0.8
"""Intensity from which a clip counts as strong: the middle of the range in the corpus."""


def labels(clips: Sequence[Clip]) -> Tensor:
    """(B,) indices in `EMOTIONS`."""
    return torch.tensor([EMOTIONS.index(clip.emotion) for clip in clips])


class EmotionModel(nn.Module):
    """Emotion encoder with a linear head that predicts the pitch of each frame, for training.

    The emotions of a few hundred clips alone are not enough for random weights to find the pitch: after 200 steps the
    accuracy was still at chance level.
    """

    def __init__(self, encoder: EmotionEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.pitch = nn.Linear(encoder.config.hidden_size, 2)
        nn.init.zeros_(self.pitch.weight)
        nn.init.zeros_(self.pitch.bias)

    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Normalised wave (B,T*640) -> (logits (B,7), per frame (B,T,2): octaves above 150 Hz and the logit of
        voicing).
        """
        hidden = self.encoder.wav2vec2(wave).last_hidden_state  # (B,2T-1,hidden)
        classifier = self.encoder.classifier
        return classifier["out_proj"](torch.tanh(classifier["dense"](hidden.mean(1)))), self.pitch(hidden[:, ::2])


REFERENCE_HZ = 150.0


def pitch_targets(pitch: Sequence[np.ndarray], moments: np.ndarray) -> Tensor:
    """Pitches (frames of the clip,) in Hz and moments (B,T,n) in s -> (B,T) octaves above 150 Hz, NaN if unvoiced."""
    frames = np.floor(moments[..., moments.shape[-1] // 2] * MOTION_FPS).astype(int)
    rows = [
        np.where((at >= 0) & (at < len(hertz)), hertz[at.clip(0, len(hertz) - 1)], np.nan)
        for hertz, at in zip(pitch, frames, strict=True)
    ]
    return torch.from_numpy(np.log2(np.stack(rows) / REFERENCE_HZ)).float()


def clip_pitch(clip: Clip) -> np.ndarray:
    """Pitch of each frame (T,) in Hz, NaN if unvoiced."""
    return pitches(clip.wave.astype(np.float64) / 2**15)


def emotion_loss(found: tuple[Tensor, Tensor], labels: Tensor, octaves: Tensor, weight: float) -> Tensor:
    """Cross-entropy of the emotions, plus `weight` times the pitch loss: L1 in octaves where voiced, and voicing
    itself.
    """
    logits, frames = found
    voiced = ~octaves.isnan()
    away = (frames[..., 0] - octaves.nan_to_num()).abs()
    told = (away * voiced).sum() / voiced.sum().clamp_min(1)
    told = told + F.binary_cross_entropy_with_logits(frames[..., 1], voiced.float())
    return F.cross_entropy(logits, labels) + weight * told


def sharpen(encoder: EmotionEncoder, factor: float) -> None:
    """Multiply the logits: above 1 the most likely emotion stands out more, and the order does not change.

    This is like a temperature of 1 / factor (Guo et al. 2017), but made for viewers: a face that shows a third of each
    of three emotions is recognised as none of them.
    """
    with torch.no_grad():
        for parameter in encoder.classifier["out_proj"].parameters():
            parameter.mul_(factor)


def classify(model: EmotionEncoder, clips: Sequence[Clip]) -> np.ndarray:
    """Whole clips -> indices in `EMOTIONS` (n,)."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return np.array([int(model(as_tensor(clip.wave).to(device))[0].argmax()) for clip in clips])


def summary(clips: Sequence[Clip], heard: np.ndarray, seed: int) -> dict[str, Any]:
    """Accuracy with its 95 % interval over speakers, accuracy by intensity, and the confusion matrix (rows: true
    emotions).
    """
    true = labels(clips).numpy()
    right = (true == heard).astype(float)
    speakers = np.array([clip.speaker for clip in clips])
    each = [float(right[speakers == speaker].mean()) for speaker in sorted(set(speakers))]
    strong = np.array([clip.intensity >= STRONG for clip in clips])
    confusion = np.zeros((len(EMOTIONS), len(EMOTIONS)), int)
    np.add.at(confusion, (true, heard), 1)
    return {
        "speakers": len(each),
        "clips": len(clips),
        "accuracy": float(np.mean(each)),
        "accuracy_interval": interval(each, seed),
        "chance": 1 / len(EMOTIONS),
        f"accuracy_intensity_from_{STRONG}": float(right[strong].mean()) if strong.any() else None,
        f"accuracy_intensity_below_{STRONG}": float(right[~strong].mean()) if not strong.all() else None,
        "emotions": list(EMOTIONS),
        "confusion": confusion.tolist(),
    }
