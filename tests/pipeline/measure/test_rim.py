"""Full frames that are right, and full frames whose seam or moving rim one would see."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from av import VideoFrame
from PIL import Image

from pipeline.face.crop import crop_square
from pipeline.face.full_frame import FullFrame, distance, mask
from pipeline.measure.rim import EVERY, Rim
from pipeline.measure.rim_motion import RimMotion
from pipeline.measure.video_pass import Delivery, Frame
from pipeline.qc.verdict import judge
from tests import media
from tests.synthetic_videos import planes_of

SQUARE = (151.4, 56.7, 236.2)
FRAMES = range(0, 6 * EVERY, EVERY)


def picture():
    """A portrait on a ground of broad waves, (320,480,3) uint8; the square is nearly all of the portrait."""
    y, x = np.mgrid[:320, :480]
    waves = 120 + 25 * np.sin(x / 40 + y / 60)[..., None] * [1, 0.8, 0.6]
    with Image.open(media.DEMO / "portrait_2016.png") as photograph:
        face = np.asarray(photograph.convert("RGB").resize((250, 250), Image.Resampling.LANCZOS))
    ground = waves.astype(np.uint8)
    ground[50:300, 145:395] = face
    return ground


@pytest.fixture(scope="module")
def full():
    return FullFrame(picture(), SQUARE)


@pytest.fixture(scope="module")
def places(full):
    y, x = np.mgrid[: full.height, : full.width] + 0.5
    return distance(x, y, SQUARE)[..., None], mask(x, y, SQUARE)[..., None]


def measured(full, frames):
    """The metrics of a film of these pictures."""
    delivery = Delivery(Path(), Fraction(25), len(frames), (full.width, full.height), full=full, upscale=1.5)
    checks = Rim(delivery), RimMotion(delivery)
    for number, frame in zip(FRAMES, frames, strict=True):
        planes = planes_of(frame.clip(0, 255).astype(np.uint8))
        whole = Frame(number, VideoFrame.from_ndarray(planes, format="yuv420p"))
        for check in checks:
            check.frame(whole.cut(SQUARE))
    found = {}
    for check in checks:
        found |= check.metrics()
    return found


def softened(full, size=96):
    """The picture's square as a model of fewer pixels shows it, at its place."""
    left, top, side = SQUARE
    small = crop_square(full.picture, (left, top, left + side, top + side), size, scale=1.0)
    large = np.asarray(Image.fromarray(small).resize((round(side),) * 2, Image.Resampling.BICUBIC))
    whole = full.picture.astype(float)
    whole[round(top) : round(top) + len(large), round(left) : round(left) + len(large)] = large
    return whole


def moving(image, number, reach, free=2.0):
    """An image whose square sways by `reach` px; from the distance `free` on it stays, for a rim that is held."""
    shift = round(reach * np.sin(0.6 + number / 3))
    return np.roll(image, (shift // 2, shift), axis=(0, 1))


def verdicts(found):
    return {reason: judge(found).status for reason in judge(found).reasons}


def test_a_face_that_moves_inside_of_a_still_rim_passes(full, places):
    far, weight = places
    soft = softened(full)
    inner = (1 - (far - 0.3) / 0.3).clip(0, 1)  # only the middle moves
    frames = []
    for number in FRAMES:
        square = inner * moving(soft, number, 3) + (1 - inner) * soft
        frames.append(full.picture + weight * (square - full.picture))
    found = measured(full, frames)
    assert found["qc_seam_visibility"] <= 1.1
    assert found["qc_rim_motion"] < 0.006
    assert judge(found).status == "pass"


def test_the_picture_itself_has_no_seam(full):
    found = measured(full, [full.picture] * len(FRAMES))
    assert found["qc_seam_visibility"] == pytest.approx(1, abs=0.04)
    assert found["qc_rim_motion"] < 0.001


@pytest.mark.parametrize(
    ("wrong", "least"),
    [
        (lambda far, weight: 12.0 * (far < 0.95), 1.5),
        (lambda far, weight: -6.0 * (far < 0.95), 1.3),
        (lambda far, weight: 15.0 * weight, 1.2),
        (lambda far, weight: 40.0 * (np.abs(far - 0.9) < 0.008), 1.5),
    ],
    ids=["a hard edge", "a weak hard edge", "a halo", "a line"],
)
def test_a_seam_is_seen(full, places, wrong, least):
    found = measured(full, [full.picture + wrong(*places)] * len(FRAMES))
    assert found["qc_seam_visibility"] > least
    assert "seam_visibility_high" in verdicts(found)


def test_a_square_that_was_pasted_beside_its_place_is_seen(full, places):
    far, _ = places
    frames = [np.where(far < 0.96, moving(full.picture, 2, 12), full.picture)] * len(FRAMES)
    found = measured(full, frames)
    assert {"seam_visibility_high", "rim_motion_high"} <= set(verdicts(found))


@pytest.mark.parametrize("reach", [6, 14])
def test_a_rim_that_moves_is_measured_in_shares_of_the_square(full, places, reach):
    _, weight = places
    frames = [full.picture + weight * (moving(full.picture, n, reach) - full.picture.astype(float)) for n in FRAMES]
    found = measured(full, frames)
    assert 0.5 * reach / SQUARE[2] < found["qc_rim_motion"] < 1.3 * reach / SQUARE[2]
    assert ("rim_motion_high" in verdicts(found)) == (found["qc_rim_motion"] > 0.015)


def test_enlarged_frames_are_reviewed_above_a_limit():
    assert "upscale_high" in judge({"qc_upscale": 2.5}).reasons
    assert "upscale_high" not in judge({"qc_upscale": 1.5}).reasons


def test_a_clip_that_is_the_square_has_no_rim():
    delivery = Delivery(Path(), Fraction(25), 1, 64)
    assert Rim(delivery).metrics() == {"qc_seam_visibility": None, "qc_upscale": None}
    assert RimMotion(delivery).metrics() == {"qc_rim_motion": None}


def test_a_square_at_the_border_is_measured_where_it_is_inside():
    cut = FullFrame(picture()[:, 200:].copy(), (SQUARE[0] - 200, *SQUARE[1:]))
    found = measured_at(cut)
    assert found["qc_seam_visibility"] == pytest.approx(1, abs=0.04)


def measured_at(full):
    rim = Rim(Delivery(Path(), Fraction(25), 1, (full.width, full.height), full=full))
    rim.frame(Frame(0, VideoFrame.from_ndarray(planes_of(full.picture), format="yuv420p")))
    return rim.metrics()


# --- The part that the other checks see ----------------------------------------------------------------------------


@pytest.mark.parametrize("square", [(40.0, 20.0, 80.0), (-30.0, 90.0, 100.0), (10.0, 10.0, 300.0)])
def test_other_checks_see_the_square_alone(square):
    full = picture()
    whole = Frame(3, VideoFrame.from_ndarray(planes_of(full), format="yuv420p"))
    part = whole.cut(square)
    left, top, side = (round(value) for value in square)
    assert part.number == 3
    assert part.whole is whole
    assert part.luma.shape == (side, side)
    rows, columns = (np.arange(start, start + side).clip(0, n - 1) for start, n in ((top, 320), (left, 480)))
    assert (part.luma == whole.luma[rows[:, None], columns]).all()
    assert np.abs(part.rgb.astype(int) - full[rows[:, None], columns]).mean() < 4


def test_large_squares_are_scaled_down():
    whole = Frame(0, VideoFrame(1200, 1000, "yuv420p"))
    assert whole.cut((100.0, 50.0, 900.0)).luma.shape == (512, 512)
