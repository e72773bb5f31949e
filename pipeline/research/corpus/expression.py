"""What an emotion does to the face and the head: a table of our own, based on the Facial Action Coding System.

FACS (Ekman, Friesen and Hager 2002) numbers the actions of muscles; which of them people show with which emotion comes
from its EMFACS tables. The weights are chosen so that the seven emotions differ clearly in a frame of 128 pixels, and
leave the mouth to speech. They are not measurements.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expression:
    """The expression at intensity 1; other intensities scale all of it."""

    face: dict[str, float] = field(default_factory=dict)
    """Units of `units.ARKIT` (both sides together) and their weights."""
    tilt: float = 0.0
    """How far the head looks up, in radians."""
    sway: float = 1.0
    """Factor on head movement."""
    articulation: float = 1.0
    """Factor on the jaw opening in speech."""


EXPRESSIONS: dict[str, Expression] = {
    # 4 brows lowered, 5 lids raised, 7 lids tight, 9 nose, 24 lips pressed
    "angry": Expression(
        {
            "browDown": 0.85,
            "eyeSquint": 0.35,
            "eyeWide": 0.10,
            "noseSneer": 0.25,
            "mouthPress": 0.20,
            "jawForward": 0.1,
        },
        tilt=-0.04,
        sway=1.2,
        articulation=1.15,
    ),
    # 9 nose wrinkled, 10 upper lip raised, 15 corners down, 4 brows
    "disgust": Expression(
        {"noseSneer": 0.70, "mouthUpperUp": 0.30, "mouthFrown": 0.25, "browDown": 0.30, "eyeSquint": 0.25},
        tilt=-0.01,
        sway=0.8,
        articulation=0.9,
    ),
    # 1 + 2 brows raised, 4 drawn together, 5 lids raised, 20 lips stretched
    "fear": Expression(
        {"browInnerUp": 0.65, "browOuterUp": 0.20, "browDown": 0.15, "eyeWide": 0.60, "mouthStretch": 0.40},
        tilt=0.0,
        sway=0.7,
        articulation=0.95,
    ),
    # 6 cheeks raised, 12 corners of the mouth up
    "happy": Expression(
        {"mouthSmile": 0.75, "cheekSquint": 0.55, "eyeSquint": 0.20, "browOuterUp": 0.10},
        tilt=0.02,
        sway=1.25,
        articulation=1.1,
    ),
    "neutral": Expression(),
    # 1 inner brows up, 4, 15 corners down, 17 chin raised
    "sad": Expression(
        {"browInnerUp": 0.60, "browDown": 0.15, "mouthFrown": 0.65, "mouthShrugLower": 0.25, "eyeBlink": 0.12},
        tilt=-0.08,
        sway=0.6,
        articulation=0.8,
    ),
    # 1 + 2 brows raised, 5 lids raised, 26 jaw dropped
    "surprise": Expression(
        {"browInnerUp": 0.60, "browOuterUp": 0.75, "eyeWide": 0.55, "jawOpen": 0.07},
        tilt=0.04,
        sway=1.0,
        articulation=1.15,
    ),
}

PARTING = ("mouthUpperUp", "mouthLowerDown", "jawOpen")
"""Units that part the lips: an expression does not use them where a sound needs closed lips."""
WIDENING = ("mouthSmile", "mouthStretch", "mouthFrown")
"""Units that pull the corners of the mouth outwards, which rounded lips cannot do."""
