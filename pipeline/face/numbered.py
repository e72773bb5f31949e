"""A picture of all faces that were found in an image, with their numbers, for a person who has to choose one."""

from collections.abc import Collection, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.face.choice import numbered
from pipeline.face.networks import Box

CHOSEN, OTHER, INK = (255, 214, 0), (255, 255, 255), (0, 0, 0)


def numbered_picture(image: np.ndarray, boxes: Sequence[Box], chosen: Collection[Box], side: int) -> Image.Image:
    """The image (H,W,3) uint8 with at most `side` pixels on its longer side, and a frame and a number for each face.

    The frames of the `chosen` faces are yellow, and those of the others are white.
    """
    scale = min(1.0, side / max(image.shape[:2]))
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    picture = Image.fromarray(image).resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    draw = ImageDraw.Draw(picture)
    high = max(12, round(max(size) / 30))
    font = ImageFont.load_default(size=high)
    for number, place in enumerate(numbered(boxes), start=1):
        left, top, right, bottom = (edge * scale for edge in boxes[place])
        colour = CHOSEN if boxes[place] in chosen else OTHER
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=INK, width=4)
        draw.rectangle((left, top, right, bottom), outline=colour, width=2)
        wide = font.getlength(str(number)) + high / 2
        # Above the face, but inside of the picture
        x, y = min(max(0.0, left), size[0] - wide), min(max(0.0, top - 1.2 * high), size[1] - 1.2 * high)
        draw.rectangle((x, y, x + wide, y + 1.2 * high), fill=colour)
        draw.text((x + wide / 2, y + 0.6 * high), str(number), INK, font, anchor="mm")
    return picture
