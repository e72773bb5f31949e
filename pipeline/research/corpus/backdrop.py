"""What is behind a person: rooms out of focus, drawn from simple shapes and blurred."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

_SIDE = 256  # px at which it is drawn: nothing in it is sharp

Rgb = tuple[int, int, int]


def backdrop(seed: int, size: int) -> np.ndarray:
    """(size,size,3) uint8 RGB."""
    random = np.random.default_rng([seed, 3])
    kinds: list[Callable[[np.random.Generator], Image.Image]] = [_room, _shelves, _window, _lights, _garden, _studio]
    draw = kinds[int(random.choice(len(kinds), p=[0.24, 0.18, 0.20, 0.12, 0.12, 0.14]))]
    picture = draw(random).filter(ImageFilter.GaussianBlur(float(random.uniform(4.0, 9.0))))
    found = np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC), np.float32)
    y, x = np.mgrid[0:size, 0:size] / size
    found *= 1 - random.uniform(0.0, 0.5) * ((x - 0.5) ** 2 + (y - 0.45) ** 2)[..., None]
    return found.clip(0, 255).round().astype(np.uint8)


def _wall(random: np.random.Generator, low: float, high: float) -> tuple[Image.Image, np.ndarray]:
    """A wall that is lit from one side, and its colour."""
    colour = _tone(random, low, high)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    side, depth = random.choice([-1, 1]), random.uniform(0.15, 0.5)
    share = 1 + depth * side * (x - 0.5) - 0.25 * random.random() * y
    picture = (colour * share[..., None] * 255).clip(0, 255).astype(np.uint8)
    return Image.fromarray(picture), colour


def _room(random: np.random.Generator) -> Image.Image:
    """A wall with a corner, pictures, a door or a lamp."""
    picture, colour = _wall(random, 0.3, 0.85)
    draw = ImageDraw.Draw(picture)
    corner = random.uniform(-0.3, 1.3) * _SIDE
    if 0 < corner < _SIDE:
        shade = np.asarray(picture, np.float32)
        shade[:, int(corner) :] *= random.uniform(0.7, 0.9)
        picture = Image.fromarray(shade.astype(np.uint8))
        draw = ImageDraw.Draw(picture)
    for _ in range(int(random.integers(1, 4))):  # pictures on the wall
        x, y = random.uniform(-30, 250), random.uniform(-10, 120)
        w, h = random.uniform(28, 80, 2)
        draw.rectangle((x - 4, y - 4, x + w + 4, y + h + 4), fill=_rgb(colour * random.choice([0.3, 1.25])))
        draw.rectangle((x, y, x + w, y + h), fill=_rgb(_tone(random, 0.2, 0.9, 0.08)))
    if random.random() < 0.45:  # a lamp
        x, y = random.choice([random.uniform(5, 50), random.uniform(205, 250)]), random.uniform(60, 150)
        _glow(picture, x, y, random.uniform(40, 80), np.array([1.0, 0.85, 0.6]) * 90)
        draw.polygon([(x - 10, y - 14), (x + 10, y - 14), (x + 20, y + 16), (x - 20, y + 16)], fill=(255, 236, 196))
    else:  # furniture
        x, w, y = random.uniform(-40, 200), random.uniform(60, 160), random.uniform(120, 200)
        draw.rectangle((x, y, x + w, 260), fill=_rgb(_wood(random)))
    return picture


def _shelves(random: np.random.Generator) -> Image.Image:
    """Shelves with books and other things."""
    picture, colour = _wall(random, 0.15, 0.6)
    draw = ImageDraw.Draw(picture)
    wood, y = _wood(random), random.uniform(-20, 20)
    while y < _SIDE:
        gap = random.uniform(44, 70)
        x = random.uniform(-10, 8)
        while x < _SIDE:
            w = random.uniform(5, 15)
            if random.random() < 0.82:
                top = y + gap * random.uniform(0.12, 0.45)
                draw.rectangle((x, top, x + w, y + gap), fill=_rgb(_tone(random, 0.12, 0.75, 0.10)))
            else:
                x += random.uniform(8, 30)
            x += w
        draw.rectangle((0, y + gap, _SIDE, y + gap + 5), fill=_rgb(wood))
        y += gap + 5
    dim = random.uniform(0.45, 0.9)
    return Image.blend(Image.new("RGB", picture.size, _rgb(colour * 0.4)), picture, dim)


def _window(random: np.random.Generator) -> Image.Image:
    """A wall with a bright window, its bars and perhaps a curtain."""
    picture, _ = _wall(random, 0.25, 0.75)
    draw = ImageDraw.Draw(picture)
    x, w = random.uniform(-60, 190), random.uniform(70, 150)
    y, h = random.uniform(-60, 0), random.uniform(130, 240)
    light = np.array([0.92, 0.97, 1.0]) if random.random() < 0.7 else np.array([1.0, 0.9, 0.72])
    draw.rectangle((x - 6, y - 6, x + w + 6, y + h + 6), fill=_rgb(np.full(3, 0.82) * light))
    draw.rectangle((x, y, x + w, y + h), fill=_rgb(light))
    draw.rectangle((x, y + h * 0.62, x + w, y + h), fill=_rgb(light * _tone(random, 0.5, 0.8, 0.05)))  # what is outside
    for share in (0.33, 0.67) if random.random() < 0.5 else (0.5,):
        draw.rectangle((x + w * share - 2, y, x + w * share + 2, y + h), fill=_rgb(light * 0.6))
    draw.rectangle((x, y + h * 0.45, x + w, y + h * 0.45 + 4), fill=_rgb(light * 0.6))
    if random.random() < 0.6:
        cloth = _tone(random, 0.35, 0.85, 0.06)
        for fold in range(6):
            left = x - 40 + fold * 9
            draw.rectangle((left, -10, left + 9, 260), fill=_rgb(cloth * (0.8 + 0.3 * (fold % 2))))
    _glow(picture, x + w / 2, y + h / 2, w, light * 40)
    if random.random() < 0.5:
        _plant(picture, random)
    return picture


def _lights(random: np.random.Generator) -> Image.Image:
    """A dark place with lights, discs as a lens draws them when it is focused on something near."""
    base = _tone(random, 0.06, 0.2, 0.03)
    y = np.linspace(0, 1, _SIDE)[:, None, None] * np.ones((1, _SIDE, 1))
    found = base * (0.6 + 0.8 * y) * 255
    grid_y, grid_x = np.mgrid[0:_SIDE, 0:_SIDE]
    warm = random.random() < 0.7
    for _ in range(int(random.integers(14, 36))):
        x, at, radius = random.uniform(0, _SIDE), random.uniform(0, _SIDE * 0.8), random.uniform(6, 17)
        tint = np.array([1.0, random.uniform(0.6, 0.9), random.uniform(0.25, 0.7)])
        tint = tint if warm or random.random() < 0.4 else tint[::-1]
        disc = (np.hypot(grid_x - x, grid_y - at) < radius)[..., None]
        found += disc * tint * random.uniform(40, 150)
    return Image.fromarray(found.clip(0, 255).astype(np.uint8))


def _garden(random: np.random.Generator) -> Image.Image:
    """Leaves and sky."""
    sky, green = np.array([0.80, 0.88, 0.95]), np.array([0.26, 0.38, 0.17]) * random.uniform(0.7, 1.2)
    picture = Image.new("RGB", (_SIDE, _SIDE), _rgb(green))
    draw = ImageDraw.Draw(picture)
    line = random.uniform(0.05, 0.5) * _SIDE
    draw.rectangle((0, 0, _SIDE, line), fill=_rgb(sky * random.uniform(0.8, 1.0)))
    for _ in range(150):
        x, r = random.uniform(-10, 266), random.uniform(6, 26)
        y = line + random.normal(0, 14) if random.random() < 0.4 else random.uniform(line, _SIDE)
        tint = green * random.uniform(0.45, 1.9) * np.array([random.uniform(0.8, 1.3), 1, 0.8])
        draw.ellipse((x - r, y - r, x + r, y + r * 0.8), fill=_rgb(tint))
    return picture


def _studio(random: np.random.Generator) -> Image.Image:
    """A plain ground with a spot of light."""
    tone = _tone(random, 0.1, 0.75, 0.08)
    y, x = np.mgrid[0:_SIDE, 0:_SIDE] / _SIDE
    away = np.hypot(x - random.uniform(0.2, 0.8), y - random.uniform(0.2, 0.7))
    found = tone * (0.55 + 0.75 * np.exp(-((away / random.uniform(0.35, 0.7)) ** 2)))[..., None]
    return Image.fromarray((found * 255).clip(0, 255).astype(np.uint8))


def _plant(picture: Image.Image, random: np.random.Generator) -> None:
    draw, x, y = ImageDraw.Draw(picture), random.uniform(0, 256), random.uniform(120, 230)
    for _ in range(16):
        angle, far = random.uniform(-2.9, -0.2), random.uniform(15, 60)
        tip = (x + far * np.cos(angle), y + far * np.sin(angle))
        tint = np.array([0.16, 0.30, 0.12]) * random.uniform(0.7, 1.6)
        draw.line([(x, y), tip], fill=_rgb(tint), width=9)


def _glow(picture: Image.Image, x: float, y: float, radius: float, light: np.ndarray) -> None:
    """Add light around a place."""
    rows, columns = np.mgrid[0:_SIDE, 0:_SIDE]
    share = np.exp(-(((columns - x) ** 2 + (rows - y) ** 2) / radius**2))[..., None]
    lit = np.asarray(picture, np.float32) + share * light
    picture.paste(Image.fromarray(lit.clip(0, 255).astype(np.uint8)))


def _wood(random: np.random.Generator) -> np.ndarray:
    return np.array([0.45, 0.31, 0.20]) * random.uniform(0.4, 1.5)


def _tone(random: np.random.Generator, low: float, high: float, spread: float = 0.05) -> np.ndarray:
    """(3,) a colour that is mostly grey."""
    return (random.uniform(low, high) * (1 + random.normal(0, spread * 2, 3))).clip(0, 1)


def _rgb(colour: np.ndarray) -> Rgb:
    red, green, blue = (np.clip(colour, 0, 1) * 255).astype(int).tolist()
    return red, green, blue
