"""The contact sheet: images in rows of equal tiles, with text above and below them."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

DARK, WHITE, GREY = (24, 24, 24), (255, 255, 255), (225, 225, 225)
LINE = 20
"""Height of a line of text, px."""
OUTLINE = 3
"""Width of the outline, px."""


@dataclass(frozen=True, eq=False)
class Tile:
    """An image of a sheet and its captions."""

    image: np.ndarray | None
    """(H,W,3) uint8; None if there is no image, which the tile then says."""
    title: str = ""
    """Text above the tile, which extends over the tiles to its right that have none."""
    notes: Sequence[tuple[str, Colour]] = ()
    """Lines below the tile, each with its colour. Only the end of a long line is shown, because that is where ids
    differ.
    """
    outline: Colour | None = None


def contact_sheet(
    rows: Sequence[Sequence[Tile]],
    *,
    side: int,
    height: int = 0,
    title: str = "",
    line: int = LINE,
    margin: int = 0,
    ground: Colour = DARK,
) -> Image.Image:
    """Rows of tiles of `side` px with images scaled to fit, `margin` px between them, and `line` px per line of
    text. Tiles are squares, or of another `height`.
    """
    height = height or side
    font, ink = ImageFont.load_default(size=round(0.6 * line)), WHITE if sum(ground) < 384 else DARK
    tiles = [tile for row in rows for tile in row]
    above = line * any(tile.title for tile in tiles)
    below = line * max((len(tile.notes) for tile in tiles), default=0)
    wide, tall, top = side + margin, above + height + below + margin, margin + line * bool(title)
    columns = max([1, *map(len, rows)])
    width = max(margin + columns * wide, round(font.getlength(title)) + 8)
    sheet = Image.new("RGB", (width, top + max(1, len(rows)) * tall), ground)
    draw = ImageDraw.Draw(sheet)
    draw.text((4, line // 2), title, ink, font, anchor="lm")
    for number, row in enumerate(rows):
        y = top + number * tall + above
        for column, tile in enumerate(row):
            x = margin + column * wide
            sheet.paste(_filled(tile, (side, height), font), (x, y))
            if tile.title:
                end = next((margin + k * wide for k in range(column + 1, len(row)) if row[k].title), width)
                draw.text((x + 4, y - line // 2), _shortened(tile.title, font, end - x - 8), ink, font, anchor="lm")
            for place, (note, colour) in enumerate(tile.notes):
                text = _shortened(note[::-1], font, side)[::-1]
                draw.text((x, y + height + line * place + line // 2), text, colour, font, anchor="lm")
    return sheet


def _filled(tile: Tile, sides: tuple[int, int], font: Font) -> Image.Image:
    """The image, centred in a dark tile of this width and height with its outline."""
    width, height = sides
    filled = Image.new("RGB", sides, GREY if tile.image is None else DARK)
    draw = ImageDraw.Draw(filled)
    if tile.image is None:
        draw.text((width // 2, height // 2), "no frame", DARK, font, anchor="mm")
    else:
        image = Image.fromarray(tile.image)
        scale = min(width / image.width, height / image.height)
        size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
        if image.size != size:
            image = image.resize(size, Image.Resampling.LANCZOS)
        filled.paste(image, ((width - size[0]) // 2, (height - size[1]) // 2))
    if tile.outline is not None:
        draw.rectangle((0, 0, width - 1, height - 1), outline=tile.outline, width=OUTLINE)
    return filled


def _shortened(text: str, font: Font, width: int) -> str:
    """A text shortened to one line of at most `width` px; dots replace the end that is cut off."""
    text = kept = " ".join(text.split())
    while kept and font.getlength(text) > width:
        kept = kept[:-1]
        text = f"{kept}..."
    return text


def comparison_sheet(rows: Mapping[str, Sequence[np.ndarray]], title: str = "") -> bytes:
    """JPEG of `rows`: name -> images (H,W,3) uint8; images that belong together are in one column."""
    tiles = [[Tile(image, "" if k else name) for k, image in enumerate(row)] for name, row in rows.items()]
    return jpeg(contact_sheet(tiles, side=128, title=title))


def in_rows(tiles: Sequence[Tile], across: int) -> list[Sequence[Tile]]:
    """Tiles in rows of this many; the last row may be shorter."""
    return [tiles[start : start + across] for start in range(0, len(tiles), across)]


def jpeg(image: Image.Image, quality: int = 85) -> bytes:
    """The image as a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()
