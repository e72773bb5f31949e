"""The expression of a face by its landmarks, and which way each emotion changes it.

`expressions.json` has the changes. `jobs.research.expressions` measures them on faces of the generated corpus, where
the emotion of each frame is known: the same people saying the same words at the same moments, once with each emotion
and once without. What varies in a face that speaks, looks about and blinks without a change of emotion is in its
covariance.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models import EMOTIONS
from pipeline.face.head_pose import in_head
from pipeline.manifest.emotion_spans import vector_of

TABLE = Path(__file__).parent / "expressions.json"

FEATURES = ("corners", "width", "inner_brows", "outer_brows", "brow_gap", "lids", "lower_lids", "opening")
"""What `expression` measures, in its order."""

CORNERS, UPPER_LIP, LOWER_LIP = (61, 291), 13, 14
INNER_BROWS, OUTER_BROWS = (55, 285, 107, 336), (46, 276, 70, 300)
EYES, LIDS, LOWER_LIDS = ((33, 133), (263, 362)), ((159, 145), (386, 374)), (145, 374)
"""Landmarks of both sides, the person's right first; of the eyes, both corners."""


def expression(landmarks: np.ndarray) -> np.ndarray:
    """Landmarks (468,3) in pixels -> `FEATURES` (8,) float64, in distances between the outer corners of the eyes.

    How far the corners of the mouth are above the upper lip, and apart; how far the brows are above the eyes at their
    inner and outer ends, and apart; how far the lids are open, as a share of the eye's width, and the lower ones up;
    how far the lips are open.
    """
    points = in_head(landmarks)

    def height(places: Sequence[int]) -> float:
        return float(points[list(places), 1].mean())

    def apart(pair: tuple[int, int]) -> float:
        return float(np.linalg.norm(points[pair[0]] - points[pair[1]]))

    eyes = height([corner for eye in EYES for corner in eye])
    open_lids = [apart(lids) / max(apart(eye), 1e-6) for lids, eye in zip(LIDS, EYES, strict=True)]
    return np.array(
        [
            height(CORNERS) - height([UPPER_LIP]),
            apart(CORNERS),
            height(INNER_BROWS) - eyes,
            height(OUTER_BROWS) - eyes,
            apart((107, 336)),
            float(np.mean(open_lids)),
            height(LOWER_LIDS) - eyes,
            apart((UPPER_LIP, LOWER_LIP)),
        ]
    )


@dataclass(frozen=True, eq=False)
class Expressions:
    """What the emotions change in a face."""

    change: np.ndarray
    """(7,8), against no emotion, in the order of `models.EMOTIONS`."""
    covariance: np.ndarray
    """(8,8) of single frames with one emotion around their mean, with half of what different features share."""

    def towards(self, emotion: Mapping[str, float], other: Mapping[str, float]) -> tuple[np.ndarray, float]:
        """The direction (8,) in which a face with `emotion` differs from one with `other`, and how clearly.

        The first, multiplied by the difference of two faces, is 1 if they differ as much as in the generated corpus,
        and 0 if they do not differ, or in other ways only: Fisher's linear discriminant (1936). The second is how many
        standard deviations of single frames lie between them; below about 1 they cannot be told apart.
        """
        between = (vector_of(emotion) - vector_of(other)) @ self.change
        weights = np.linalg.solve(self.covariance, between)
        squared = float(between @ weights)
        return weights / max(squared, 1e-12), squared**0.5

    def as_json(self, about: Mapping[str, Any]) -> str:
        """The file again; `about` says how it was made."""
        change = {name: [round(x, 6) for x in row] for name, row in zip(EMOTIONS, self.change.tolist(), strict=True)}
        return json.dumps(
            {
                **about,
                "features": list(FEATURES),
                "change": change,
                "covariance": [[round(x, 9) for x in row] for row in self.covariance.tolist()],
            },
            indent=1,
        )


@cache
def known_expressions() -> Expressions:
    """Those of `TABLE`."""
    table = json.loads(TABLE.read_text())
    return Expressions(np.array([table["change"][name] for name in EMOTIONS]), np.array(table["covariance"]))
