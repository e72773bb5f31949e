"""How far a face looks to the side, for the limit beyond which a portrait is not animated.

A model needs both eyes and the whole mouth. Landmarks tell the turn of a face well up to 30 degrees, and too small
beyond: FaceMesh opens a face that is seen from the side, and more if it looks to the left of the picture. So a face
that may be turned far is looked at once more in a mirror, and the larger of the two angles counts.

Measured on 12 generated people (`pipeline/research/corpus`, seeds 40 to 51, 256 px) who were turned to both sides:

    real turn                        0     10     20     30     40     50     60     70     80
    error, median (largest)    1.1 (2) 0.7 (3) 1.1 (4) 1.7 (6) 3.1 (9) 4.8 (13) 7.7 (17) 14 (44) 22 (27)
    found, of 24 (12 at 0)          12     24     24     24     24     24     24     24      4
    beyond 42, of those found        0      0      0      0      0     19     24     20      4

Nothing was found at 90 degrees. At 40 degrees both eyes are seen, at 50 the far one touches the outline, and at 60 it
is hidden. So `limits.max_yaw` is 42.
"""

import numpy as np

from pipeline.face.detector import Face, FaceDetector
from pipeline.face.head_pose import pose_of

LOOK_TWICE = 20.0
"""A face that looks less to the side, in degrees, is not looked at again: at 50 degrees the smallest angle was 22.7."""


def yaw_of(image: np.ndarray, face: Face, detector: FaceDetector) -> float:
    """Degrees by which a face of the image (H,W,3) uint8 RGB looks to the right of it; negative to the left."""
    yaw = pose_of(face.landmarks).yaw
    if abs(yaw) < LOOK_TWICE:
        return yaw
    height, width, _ = image.shape
    left, top, right, bottom = (round(edge) for edge in face.box)
    margin = round(face.size / 2)
    left, right = max(0, left - margin), min(width, right + margin)
    part = image[max(0, top - margin) : min(height, bottom + margin), left:right]
    middle = right - face.centre[0]
    mirrored = detector.detect(np.ascontiguousarray(part[:, ::-1]))
    same = [other for other in mirrored if abs(other.centre[0] - middle) < face.size / 2]
    return max([yaw, *(-pose_of(other.landmarks).yaw for other in same[:1])], key=abs)
