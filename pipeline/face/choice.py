"""Which of several faces is meant: what the column `face` may hold, and the face of an image that it names.

    largest           the largest face
    only              the only face; an image with several is refused
    2                 the second face from the left
    640,360           the face at this point, x,y in pixels of the upright image
    600,300,700,420   the face in this box: left,top,right,bottom

Faces are numbered from 1 by the x of their centres, in the image as it is after it was turned upright.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.common.errors import ClipError
from pipeline.common.quoted import quoted

if TYPE_CHECKING:
    from pipeline.face.networks import Box  # it loads the networks' library, which a driver does not need

FORMS = "largest, only, a number from the left (2), a point in pixels (640,360) or a box (600,300,700,420)"
"""What is allowed, for messages."""

ALIKE = 0.8
"""Two faces are alike in size from this ratio on. Heads of adults differ by a tenth, and so do the boxes of one face at
other sizes, so that the larger of two such faces need not be the nearer one.
"""

NEAR = 1.0
"""A point belongs to a face whose centre is at most this many sizes of that face away. Where faces are closer than
that, it belongs to the nearest one.
"""

MOST = 1_000
"""Largest number of a face; most coordinates are far below `FARTHEST`."""
FARTHEST = 1_000_000.0
"""Largest coordinate, px."""

LISTED = 4
"""Faces that a message lists."""

_SEPARATOR = re.compile(r"\s*[,;]\s*|\s+")


@dataclass(frozen=True)
class FaceChoice:
    """Which face is meant."""

    kind: Literal["largest", "only", "number", "point", "box"] = "largest"
    values: tuple[float, ...] = ()
    """The number, (x, y), or (left, top, right, bottom)."""

    def __str__(self) -> str:
        """As it may be written in a table: the same text for the same choice."""
        return (
            self.kind if not self.values else ",".join(f"{value:.2f}".rstrip("0").rstrip(".") for value in self.values)
        )

    @property
    def names_one(self) -> bool:
        """Whether it says which of several faces is meant, so that nobody has to review which one speaks."""
        return self.kind in ("number", "point", "box")


LARGEST = FaceChoice()


def parse_choice(value: Any) -> FaceChoice:
    """A value of a table or a setting -> the choice. Numbers may come as texts, and points and boxes as lists.

    Raises ValueError, whose message says what was found and what is allowed.
    """
    if isinstance(value, str) and value.strip().lower() in ("largest", "only"):
        return FaceChoice("only" if value.strip().lower() == "only" else "largest")
    numbers = _numbers(value)
    if numbers is None or len(numbers) not in (1, 2, 4):
        raise ValueError(f"{quoted(value)} names no face: write {FORMS}")
    if len(numbers) == 1:
        if not numbers[0].is_integer() or not 1 <= numbers[0] <= MOST:
            raise ValueError(f"{quoted(value)} is not the number of a face: write a whole number from 1 to {MOST}")
        return FaceChoice("number", numbers)
    if not all(0 <= number <= FARTHEST for number in numbers):
        raise ValueError(f"{quoted(value)} is outside of every image: write pixels of the image, from 0 on")
    if len(numbers) == 2:
        return FaceChoice("point", numbers)
    left, top, right, bottom = numbers
    if left >= right or top >= bottom:
        raise ValueError(f"{quoted(value)} is an empty box: write left,top,right,bottom in pixels of the image")
    return FaceChoice("box", numbers)


def _numbers(value: Any) -> tuple[float, ...] | None:
    """The numbers in a text, a list or a number; None if it holds anything else."""
    if isinstance(value, str):
        parts: Sequence[Any] = _SEPARATOR.split(value.strip().strip("[]()").strip())
    elif isinstance(value, list | tuple | np.ndarray):
        parts = list(value)
    else:
        parts = [value]
    try:
        numbers = tuple(float(part) for part in parts if not isinstance(part, bool | np.bool_ | bytes))
    except (TypeError, ValueError, OverflowError):
        return None
    return numbers if len(numbers) == len(parts) and all(map(math.isfinite, numbers)) else None


def numbered(boxes: Sequence["Box"]) -> list[int]:
    """Places in `boxes` in the order of the faces' numbers: from left to right, and from above where that is equal."""
    return sorted(range(len(boxes)), key=lambda place: (boxes[place][0] + boxes[place][2], boxes[place][1]))


def choose(choice: FaceChoice, boxes: Sequence["Box"]) -> int:
    """Place in `boxes` (one or more, the largest face first) of the face that is meant.

    Raises ClipError: face_not_there and several_faces.
    """
    order = numbered(boxes)
    if choice.kind == "largest" or (choice.kind == "only" and len(boxes) == 1):
        return 0
    if choice.kind == "only":
        raise ClipError(
            "several_faces",
            f"the only face is asked for, but it shows {len(boxes)} faces ({listed(boxes)}): crop it to one of them, "
            "or write the number of one, from the left, or a point of it, in column face",
        )
    if choice.kind == "number":
        number = int(choice.values[0])
        if number > len(boxes):
            raise ClipError(
                "face_not_there",
                f"face {number} is asked for, but it shows {_count(boxes)} ({listed(boxes)}): correct the number in "
                "column face, or give a point of the face in pixels",
            )
        return order[number - 1]
    return _at_point(choice, boxes) if choice.kind == "point" else _in_box(choice, boxes)


def _at_point(choice: FaceChoice, boxes: Sequence["Box"]) -> int:
    away = [math.hypot(x - choice.values[0], y - choice.values[1]) / size for (x, y), size in map(_measured, boxes)]
    nearest = min(range(len(boxes)), key=away.__getitem__)
    if away[nearest] > NEAR:
        raise ClipError(
            "face_not_there",
            f"no face is at {choice} or less than its own size away; it shows {_count(boxes)} ({listed(boxes)}): "
            "correct the point in column face, or give the number of the face",
        )
    return nearest


def _in_box(choice: FaceChoice, boxes: Sequence["Box"]) -> int:
    left, top, right, bottom = choice.values
    measured = list(map(_measured, boxes))
    inside = [place for place, ((x, y), _) in enumerate(measured) if left <= x <= right and top <= y <= bottom]
    if not inside:
        raise ClipError(
            "face_not_there",
            f"no face has its middle in the box {choice}; it shows {_count(boxes)} ({listed(boxes)}): correct the box "
            "in column face, or give the number of the face",
        )
    largest = max(inside, key=lambda place: measured[place][1])
    alike = [boxes[place] for place in inside if measured[place][1] >= ALIKE * measured[largest][1]]
    if len(alike) > 1:
        raise ClipError(
            "several_faces",
            f"the box {choice} holds {len(alike)} faces of almost the same size: make the box in column face smaller, "
            "or give the number of the face from the left",
        )
    return largest


def listed(boxes: Sequence["Box"], places: Sequence[int] | None = None) -> str:
    """Numbers and centres of faces for a message, of all of them or of some: `1 at 640,360; 2 at 1200,340`."""
    shown = [(n, place) for n, place in enumerate(numbered(boxes), 1) if places is None or place in places]
    told = [f"{number} at {centre_text(boxes[place])}" for number, place in shown[:LISTED]]
    return "; ".join(told) + (f"; and {len(shown) - LISTED} more" if len(shown) > LISTED else "")


def centre_text(box: "Box") -> str:
    """The centre of a face as it may be written in a table."""
    (x, y), _ = _measured(box)
    return f"{x:.0f},{y:.0f}"


def _count(boxes: Sequence["Box"]) -> str:
    return "one face" if len(boxes) == 1 else f"{len(boxes)} faces"


def _measured(box: "Box") -> tuple[tuple[float, float], float]:
    """(centre, longer side) of a box."""
    left, top, right, bottom = box
    return ((left + right) / 2, (top + bottom) / 2), max(right - left, bottom - top)
