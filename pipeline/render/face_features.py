"""One face on its way to the engine: its files, and what is made of them. A clip has one, or several of one picture."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from pipeline.face.networks import Box
from pipeline.render.emotion_track import EmotionTrack
from pipeline.render.portrait import Portrait

if TYPE_CHECKING:
    from pipeline.manifest.clip import Clip  # it imports what a child process does not need


@dataclass(frozen=True, eq=False)
class FaceInputs:
    """What is rendered of one face."""

    portrait: Portrait
    wave: np.ndarray
    """(samples at 16 kHz,) float32 mono, as long as the clip: its own sound, and silence after it; silence alone for an
    idle face.
    """


@dataclass(frozen=True, eq=False)
class FaceFeatures:
    """What the render stage needs for one face."""

    portrait: np.ndarray
    speech: np.ndarray
    emotion: np.ndarray
    track: EmotionTrack | None
    """These four as in `ClipFeatures`."""
    part: "Clip"
    """The clip as if this face were its only one: with its own sound, seed and guidance."""
    box: Box | None = None
    """As `ClipFeatures.face_box`."""
    rest: np.ndarray | None = None
    pose: np.ndarray | None = None
    """These two as in `ClipFeatures`."""
