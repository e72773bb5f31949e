"""What an emotion does to face and head: a table that is ours, after the Facial Action Coding System.

FACS (Ekman, Friesen and Hager 2002) numbers the muscles' actions; which of them people show with which emotion is
from its EMFACS tables. Weights are chosen so that the seven differ clearly in a picture of 128 pixels, and leave the
mouth to speech. They are no measurement.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Expression:
    """At intensity 1; another intensity scales all of it."""

    face: dict[str, float] = field(default_factory=dict)
    """Units of `units.ARKIT` (both sides together) and their weights."""
    tilt: float = 0.0
    """Radians that the head looks up."""
    sway: float = 1.0
    """Factor on the movement of the head."""
    articulation: float = 1.0
    """Factor on the opening of the jaw in speech."""


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
"""Units that part the lips: an expression leaves them where a sound needs closed lips."""
WIDENING = ("mouthSmile", "mouthStretch", "mouthFrown")
"""Units that draw the corners of the mouth out: rounded lips cannot be wide."""
