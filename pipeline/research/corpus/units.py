"""The 52 facial blendshapes (action units) of Apple's ARKit, in the order of its documentation (ARFaceAnchor).

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
"""Other programs sort them differently (the package `anny` by name): map them by name, and never by index."""

CURVES: tuple[str, ...] = (*ARKIT, "yaw", "pitch", "roll", "x", "y", "size", "gazeX", "gazeY")
"""The ground truth of each frame in the corpus: units, `pipeline.face.head_pose.head_pose` by the rig, gaze."""

_PLACE = {name: i for i, name in enumerate(ARKIT)}


def columns(name: str) -> list[int]:
    """Indices of a unit in `ARKIT`: one, or a left and a right one if `name` has no side.

    Raises KeyError for an unknown name.
    """
    if name in _PLACE:
        return [_PLACE[name]]
    return [_PLACE[f"{name}Left"], _PLACE[f"{name}Right"]]


def weights(face: dict[str, float]) -> np.ndarray:
    """A face as names and weights, with sides together or separate -> (52,) float64."""
    values = np.zeros(len(ARKIT))
    for name, weight in face.items():
        values[columns(name)] = weight
    return values
