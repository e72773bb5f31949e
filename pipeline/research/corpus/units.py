"""The 52 facial action units that Apple's ARKit names, in the order of its documentation (ARFaceAnchor).

Left and right are the person's own. A weight of 0 is the neutral face, 1 the unit's largest movement.
"""

import numpy as np


def _both(*names: str) -> tuple[str, ...]:
    return tuple(f"{name}{side}" for name in names for side in ("Left", "Right"))


_EYE = ("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp", "eyeSquint", "eyeWide")

ARKIT: tuple[str, ...] = (
    *(f"{name}Left" for name in _EYE),
    *(f"{name}Right" for name in _EYE),
    *("jawForward", "jawLeft", "jawRight", "jawOpen"),
    *("mouthClose", "mouthFunnel", "mouthPucker", "mouthLeft", "mouthRight"),
    *_both("mouthSmile", "mouthFrown", "mouthDimple", "mouthStretch"),
    *("mouthRollLower", "mouthRollUpper", "mouthShrugLower", "mouthShrugUpper"),
    *_both("mouthPress", "mouthLowerDown", "mouthUpperUp", "browDown"),
    "browInnerUp",
    *_both("browOuterUp"),
    "cheekPuff",
    *_both("cheekSquint", "noseSneer"),
    "tongueOut",
)
"""Other programs sort them differently (the package `anny` by name): map by name, never by place."""

CURVES: tuple[str, ...] = (*ARKIT, "yaw", "pitch", "roll", "x", "y", "size", "gazeX", "gazeY")
"""What is known of each frame of the corpus: units, `pipeline.face.head_pose.head_pose` by the rig, gaze."""

_PLACE = {name: i for i, name in enumerate(ARKIT)}


def columns(name: str) -> list[int]:
    """Places of a unit in `ARKIT`: of one, or of a left and a right one where `name` has neither.

    Raises KeyError for a name that is no unit.
    """
    if name in _PLACE:
        return [_PLACE[name]]
    return [_PLACE[f"{name}Left"], _PLACE[f"{name}Right"]]


def weights(face: dict[str, float]) -> np.ndarray:
    """A face as names and weights, sides together or apart -> (52,) float64."""
    values = np.zeros(len(ARKIT))
    for name, weight in face.items():
        values[columns(name)] = weight
    return values
