"""What an emotion classifier hears: one of seven emotions a clip."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models import EMOTIONS, EmotionEncoder
from pipeline.evaluate.systems import interval
from pipeline.listening.corpus import Clip
from pipeline.listening.phonemes import as_tensor

STRONG = 0.8
"""Intensity from which a clip counts as strong: the middle of what the corpus draws."""


def labels(clips: Sequence[Clip]) -> Tensor:
    """(B,) places in `EMOTIONS`."""
    return torch.tensor([EMOTIONS.index(clip.emotion) for clip in clips])


def emotion_loss(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of probabilities (B,7)."""
    return torch.nn.functional.nll_loss(probabilities.clamp_min(1e-9).log(), labels)


def classify(model: EmotionEncoder, clips: Sequence[Clip]) -> np.ndarray:
    """Whole clips -> places in `EMOTIONS` (n,)."""
    device = next(model.parameters()).device
    with torch.no_grad():
        return np.array([int(model(as_tensor(clip.wave).to(device))[0].argmax()) for clip in clips])


def summary(clips: Sequence[Clip], heard: np.ndarray, seed: int) -> dict[str, Any]:
    """Accuracy with its 95 % interval over speakers, by intensity, and the confusion matrix (rows: what is true)."""
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
