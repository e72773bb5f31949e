"""The contact sheet of a validation: rows of pictures with their names."""

import io
from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE = 128
"""Of a picture in the sheet, px."""
LINE = 20
"""Height of a row's name, px."""


def sheet(rows: Mapping[str, Sequence[np.ndarray]], title: str = "") -> bytes:
    """JPEG of `rows`: name -> pictures (S,S,3) uint8, above each other what belongs together."""
    columns = max(len(pictures) for pictures in rows.values())
    width, height = columns * SIDE, LINE + len(rows) * (SIDE + LINE)
    canvas = Image.new("RGB", (max(width, 480), height), (24, 24, 24))
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(size=13)
    draw.text((4, 2), title, fill=(255, 255, 255), font=font)
    for number, (name, pictures) in enumerate(rows.items()):
        top = LINE + number * (SIDE + LINE)
        draw.text((4, top + 2), name, fill=(200, 200, 200), font=font)
        for column, picture in enumerate(pictures):
            tile = Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
            canvas.paste(tile, (column * SIDE, top + LINE))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=88)
    return buffer.getvalue()
