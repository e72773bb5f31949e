"""Composed frames: the picture's own samples outside of the mask, and what was decoded inside of it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.pixels import to_tensor
from pipeline.face.crop import crop_square
from pipeline.face.full_frame import FullFrame, distance, mask
from pipeline.media.pixel_layout import YUV420P, YUV422P10, YUVA444P10
from pipeline.media.planes import to_planes
from pipeline.render import compose
from pipeline.render.compose import Composer, composed
from pipeline.render.hold_rim import RimHolder
from pipeline.render.picture import Picture, picture_of

SIZE = 64
INSIDE, LEAVING = (70.3, 41.9, 120.6), (-30.2, 80.5, 130.0)
SQUARES = pytest.mark.parametrize("square", [INSIDE, LEAVING])
LAYOUTS = pytest.mark.parametrize("layout", [YUV420P, YUV422P10, YUVA444P10], ids=lambda layout: layout.name)


def smooth(width=230, height=186, shift=0.0):
    """(H,W,3) uint8 with waves that 64 px per square can show."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(x / 19 + 1.3 * shift) + np.cos(y / 23 + c) + np.sin((x + y) / 31 + 2 * c) for c in range(3)]
    return (128 + 35 * np.stack(waves, axis=-1)).clip(0, 255).astype(np.uint8)


def portrait_of(picture, square):
    left, top, side = square
    return crop_square(picture, (left, top, left + side, top + side), SIZE, scale=1.0)


def decoded(pixels, layout=YUV420P):
    return to_planes(to_tensor(pixels), layout)


def made(square, layout=YUV420P, rest=None, **settings):
    """Picture, its portrait, and the composer; `rest` is what the model makes of the portrait."""
    full = FullFrame(smooth(), square)
    pixels = portrait_of(full.picture, square)
    rest = decoded(pixels if rest is None else rest, layout)
    return full, pixels, Composer(picture_of(full, layout), pixels, rest, **settings)


def frames_of(composer, planes):
    return [composer.whole(frame.numpy()) for region in composer.regions(planes) for frame in region]


@LAYOUTS
@SQUARES
def test_outside_the_mask_every_sample_is_the_pictures_own(square, layout):
    full, _, composer = made(square, layout, hold_rim=1.0)
    noise = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)
    own = layout.split(to_planes(to_tensor(full.picture), layout)[0].numpy())
    for frame in frames_of(composer, decoded(noise, layout)):
        assert frame.dtype == own[0].dtype
        for number, (plane, source) in enumerate(zip(layout.split(frame)[:3], own, strict=False)):
            across, down = (layout.horizontal, layout.vertical) if number else (1, 1)
            x, y = np.arange(0, full.width, across) + 0.5, np.arange(0, full.height, down) + down / 2
            weight = mask(x, y[:, None], square)
            assert (plane[weight == 0] == source[weight == 0]).all()
            assert (plane[weight == 1] != source[weight == 1]).mean() > 0.8


@LAYOUTS
@SQUARES
def test_a_square_that_was_not_changed_gives_the_picture_again(square, layout):
    """So places and filters are right, those of subsampled colours too."""
    full, pixels, composer = made(square, layout)
    (frame,) = frames_of(composer, decoded(pixels, layout))
    own = layout.split(picture_of(full, layout).planes)
    unit = 1 << layout.bits - 8
    for plane, source in zip(layout.split(frame)[:3], own, strict=False):
        assert np.abs(plane.astype(int) - source).mean() < 0.5 * unit
        assert np.abs(plane.astype(int) - source).max() < 6 * unit


def test_the_alpha_plane_says_what_is_animated():
    full, pixels, composer = made(INSIDE, YUVA444P10)
    (frame,) = frames_of(composer, decoded(pixels, YUVA444P10))
    y, x = np.mgrid[: full.height, : full.width] + 0.5
    assert np.abs(YUVA444P10.split(frame)[3] / 1023 - mask(x, y, INSIDE)).max() < 1e-3


def test_pictures_become_planes_in_strips_as_they_would_at_once():
    full = FullFrame(smooth(130, 700), (10.0, 300.0, 80.0))
    for layout in (YUV420P, YUV422P10):
        assert (picture_of(full, layout).planes == to_planes(to_tensor(full.picture), layout)[0].numpy()).all()


def test_a_shift_of_the_models_colours_is_taken_back_at_the_rim():
    pixels = portrait_of(smooth(), INSIDE)
    darker = (0.9 * pixels + [4, 0, 12]).astype(np.uint8)
    full, _, composer = made(INSIDE, rest=darker)
    (frame,) = frames_of(composer, decoded(darker))
    own = YUV420P.split(picture_of(full, YUV420P).planes)
    y, x = np.mgrid[: full.height, : full.width] + 0.5
    far = distance(x, y, INSIDE)
    error = np.abs(YUV420P.split(frame)[0].astype(int) - own[0])
    assert error[(far > 0.7) & (far < 1)].mean() < 1.5  # it was 9
    detail = YUV420P.split(frame)[0][far < 0.5].std() / own[0][far < 0.5].std()
    assert 0.8 < detail < 1.1  # low frequencies alone: the face keeps its own


def test_frames_are_composed_in_parts_that_bound_the_memory(monkeypatch):
    _, _, composer = made(INSIDE)
    planes = decoded(np.stack([portrait_of(smooth(shift=s), INSIDE) for s in range(5)]))
    (at_once,) = composer.regions(planes)
    monkeypatch.setattr(compose, "MOST_PIXELS", 2 * 120 * 120)
    parts = list(composer.regions(planes))
    assert [len(part) for part in parts] == [2, 2, 1]
    assert (torch.cat(parts) == at_once).all()
    assert at_once.shape[2] <= 120


def test_without_a_picture_batches_are_handed_over_as_they_are():
    batches = [torch.zeros(2, 96, 64), torch.zeros(1, 96, 64)]
    assert [id(batch) for batch in composed(None, batches)] == [id(batch) for batch in batches]


def test_a_frame_of_the_encoder_is_a_copy():
    _, pixels, composer = made(INSIDE)
    one, other = (frames_of(composer, decoded(p))[0] for p in (pixels, 255 - pixels))
    assert (one != other).any()
    assert (frames_of(composer, decoded(pixels))[0] == one).all()


# --- Held at the rim -----------------------------------------------------------------------------------------------


def moved(pixels, x, y):
    """An image whose content has moved to the right by x and down by y px."""
    return np.roll(pixels, (y, x), axis=(0, 1))


def luma(pixels):
    return decoded(pixels)[:, :SIZE].float()


@pytest.mark.parametrize(("x", "y"), [(3, 0), (0, -4), (-2, 3)])
def test_the_displacement_of_what_has_moved_is_found(x, y):
    picture, part = smooth(), 160 / SIZE
    pixels = portrait_of(picture, (35.0, 12.0, 160.0))
    shifted = portrait_of(picture, (35.0 - part * x, 12.0 - part * y, 160.0))
    flow = RimHolder(luma(pixels)[0], 1.0).displacement(luma(shifted))
    middle = flow[0, :, 16:-16, 16:-16].mean(dim=(1, 2)) * SIZE / 2
    assert middle.tolist() == pytest.approx([x, y], abs=0.4)


def test_the_rim_is_held_and_the_face_moves():
    pixels = portrait_of(smooth(), INSIDE)
    planes = luma(moved(pixels, 3, 0))
    y, x = np.mgrid[:SIZE, :SIZE] + 0.5
    far = distance(x, y, (0.0, 0.0, float(SIZE)))
    rim, face = (far > 0.72) & (far < 0.9), far < 0.25
    free, half, held = (
        RimHolder(luma(pixels)[0], share).warped([planes], planes)[0][0].numpy() for share in (0.0, 0.5, 1.0)
    )
    wanted = luma(pixels)[0].numpy()
    errors = [float(np.abs(found - wanted)[rim].mean()) for found in (free, half, held)]
    assert errors[2] < 0.3 * errors[0]
    assert errors[2] < errors[1] < errors[0]
    assert np.abs(held - planes[0].numpy())[face].mean() < 0.05 * errors[0]
    assert np.abs(free - planes[0].numpy()).max() < 1e-2


def test_a_change_of_brightness_is_no_motion():
    pixels = portrait_of(smooth(), INSIDE)
    flow = RimHolder(luma(pixels)[0], 1.0).displacement(luma((pixels * 0.9).astype(np.uint8)))
    assert float(flow.abs().mean()) * SIZE / 2 < 0.5


def test_a_picture_is_as_large_as_its_planes():
    picture = picture_of(FullFrame(smooth(), INSIDE), YUV422P10)
    assert (picture.width, picture.height) == (230, 186)
    assert isinstance(replace(picture, square=LEAVING), Picture)
