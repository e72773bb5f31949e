import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.common.errors import ClipError
from pipeline.common.limits import Limits
from pipeline.face.choice import ALIKE, parse_choice
from pipeline.face.detector import FaceDetector
from pipeline.face.upright import turned
from pipeline.render.portrait import MAX_FRAMES, load_portrait, recropped, reload_upright
from tests import media

SIZE = 64
DATA = Path(__file__).parents[2] / "data"
FACE = Image.open(media.DEMO / "portrait_2016.png").convert("RGB").resize((160, 160))
OTHER = Image.open(media.DEMO / "portrait_2022.png").convert("RGB").resize((160, 160))
BLANK = Image.new("RGB", FACE.size, "white")
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (160, 160, 3), dtype=np.uint8))


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture
def load(detector):
    def load(data, crop="auto", face="largest", **limits):
        return load_portrait(lambda: data, "face.png", crop, Limits(**limits), detector, SIZE, parse_choice(face))

    return load


def refusal(load, data, **options):
    with pytest.raises(ClipError) as caught:
        load(data, **options)
    assert caught.value.message.startswith("image face.png: ")
    return caught.value


def png(image):
    return media.picture_of(image, "PNG")


def beside(*images, gap=20):
    """Images in a row, on grey."""
    picture = Image.new(
        "RGB", (sum(image.width + gap for image in images), max(image.height for image in images)), "gray"
    )
    left = 0
    for image in images:
        picture.paste(image, (left, 0))
        left += image.width + gap
    return picture


def animation(kind, *frames):
    lossless = {"lossless": True} if kind == "WEBP" else {"default_image": kind == "default image"}
    return media.picture_of(
        frames[0], kind[:4].replace("defa", "PNG"), save_all=True, append_images=frames[1:], **lossless
    )


# --- Which way up ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_portrait_that_is_not_upright_is_turned_and_its_row_says_so(load, turn):
    straight = load(png(FACE))
    found = load(png(Image.fromarray(turned(np.asarray(FACE), turn))))
    assert np.array_equal(found.pixels, straight.pixels)
    assert (found.turn, found.face_box) == (360 - turn, straight.face_box)
    [note] = found.notes
    assert note.code == "portrait_turned"
    assert f"turned by {360 - turn} degrees" in note.message
    assert (straight.turn, straight.notes) == (0, ())


def test_a_wrong_tag_of_the_camera_is_corrected_by_the_face(load):
    """Its pixels were turned upright, but the tag was left."""
    exif = Image.Exif()
    exif[0x0112] = 6
    found = load(media.picture_of(FACE, "PNG", exif=exif))
    assert np.array_equal(found.pixels, load(png(FACE)).pixels)
    assert found.turn == 270


def test_a_right_tag_of_the_camera_needs_no_turn(load):
    found = load(media.oriented(np.asarray(FACE), 6, "PNG"))
    assert (found.turn, found.notes) == (0, ())


def test_without_crop_the_image_is_taken_as_it_is(load):
    lying = turned(np.asarray(FACE), 90)
    found = load(media.picture(lying), crop="none")
    assert (found.turn, found.face_box, found.notes) == (None, None, ())
    assert np.abs(found.pixels.astype(int) - np.asarray(Image.fromarray(lying).resize((SIZE, SIZE), 1))).mean() < 1
    assert refusal(load, media.picture(lying[:100]), crop="none").code == "image_not_square"


def test_no_face_is_looked_for_from_four_sides(load):
    error = refusal(load, png(NOISE))
    assert error.code == "face_not_found"
    assert "no face found, whichever way up the image is" in error.message


# --- Several faces ---------------------------------------------------------------------------------------------


def test_two_faces_alike_are_named_with_their_places(load):
    found = load(png(beside(FACE, OTHER)))
    assert found.faces_found == 2
    [note] = found.notes
    assert (note.code, note.level) == ("faces_alike", "review")
    assert re.search(r"numbered from the left, 1 at \d+,\d+; 2 at \d+,\d+\)", note.message)
    number = 1 if found.face_box[2] < 160 else 2
    assert f"and face {number}, which is the largest by a little, speaks" in note.message
    assert "write its number in column face" in note.message


def test_faces_above_each_other_and_three_in_a_row_have_places_too(load):
    above = turned(np.asarray(beside(*(Image.fromarray(turned(np.asarray(face), 270)) for face in (FACE, OTHER)))), 90)
    assert "2 faces are almost equally large" in load(media.picture(above)).notes[0].message
    text = load(png(beside(FACE, OTHER, FACE))).notes[0].message
    assert re.search(r"3 faces are almost equally large \(.*; 2 at .*; 3 at ", text)


def test_a_face_that_is_clearly_smaller_calls_for_no_review(load):
    small = FACE.resize((round(160 * (ALIKE - 0.15)),) * 2)
    found = load(png(beside(FACE, small)))
    assert (found.faces_found, found.notes) == (2, ())


THREE = png(beside(FACE, OTHER, FACE.resize((110, 110))))
"""Three faces with their middles at about 80,80, 260,80 and 415,55."""


@pytest.mark.parametrize(
    ("face", "left"),
    [
        *(("1", 0), ("2", 180), ("3", 360), ("80,80", 0), ("415,110", 360)),
        *(("185,5,335,155", 180), ("190,0,475,155", 180)),
    ],
)
def test_the_face_that_a_row_names_is_cropped_and_nobody_has_to_review_it(load, face, left):
    found = load(THREE, face=face)
    assert left < found.face_box[0] < found.face_box[2] < left + 160
    assert (found.faces_found, found.notes) == (3, ())
    box = tuple(round(edge, 1) for edge in found.face_box)  # as a clip's row has it
    again = recropped(reload_upright(THREE, Limits(), 0, None), box, SIZE)
    assert np.abs(again - found.pixels.astype(int)).mean() < 1


@pytest.mark.parametrize(
    ("face", "code", "said"),
    [
        ("only", "several_faces", "the only face is asked for, but it shows 3 faces (1 at "),
        ("0,0,480,160", "several_faces", "the box 0,0,480,160 holds 2 faces of almost the same size"),
        ("4", "face_not_there", "face 4 is asked for, but it shows 3 faces (1 at "),
        ("3000,80", "face_not_there", "no face is at 3000,80 or less than its own size away"),
        ("170,0,190,30", "face_not_there", "no face has its middle in the box 170,0,190,30"),
    ],
)
def test_a_face_that_is_not_there_is_refused_with_the_faces_that_are(load, face, code, said):
    error = refusal(load, THREE, face=face)
    assert error.code == code
    assert said in error.message


def test_the_only_face_of_an_image_is_taken(load):
    assert load(png(FACE), face="only").face_box == load(png(FACE)).face_box


@pytest.mark.parametrize(("turn", "face"), [(90, "2"), (180, "260,80"), (270, "180,0,340,160")])
def test_a_face_that_lies_beside_an_upright_one_has_a_code_of_its_own(load, turn, face):
    """Whether the detector sees it as it lies or not."""
    lies = Image.fromarray(turned(np.asarray(OTHER), turn))
    error = refusal(load, png(beside(FACE, lies)), face=face)
    assert error.code == "face_not_upright"
    assert re.search(rf"the face at 2\d\d,\d+ is turned by {turn} degrees clockwise against the largest", error.message)


def test_a_face_in_profile_is_refused_with_its_angle_and_the_limit(load):
    slightly, far = ((DATA / f"turned_{degrees}.jpg").read_bytes() for degrees in (30, 60))
    assert load(slightly).faces_found == 1
    error = refusal(load, far)
    assert error.code == "face_in_profile"
    angle = int(
        re.search(r"looks (\d+) degrees to the right of the picture, and limits.max_yaw = 42", error.message)[1]
    )
    assert 42 < angle < 65
    assert load(far, max_yaw=90.0).faces_found == 1
    assert "to the left of the picture" in refusal(load, png(mirrored(far))).message


def mirrored(data):
    return Image.open(io.BytesIO(data)).transpose(Image.Transpose.FLIP_LEFT_RIGHT)


# --- Small faces -----------------------------------------------------------------------------------------------


def on_wall(face, size, place, wall):
    picture = Image.new("RGB", wall, (96, 112, 120))
    picture.paste(face.resize((size, size), Image.Resampling.LANCZOS), place)
    return picture


@pytest.mark.slow
@pytest.mark.parametrize("turn", [0, 180])
def test_a_small_face_in_a_large_picture_is_found_and_turned(load, turn):
    """The face is 48 px of 1080, which `detect` does not see."""
    picture = np.asarray(on_wall(FACE, 78, (1500, 700), (1920, 1080)))
    found = load(media.picture(turned(picture, turn)))
    assert (found.faces_found, found.turn) == (1, turn)
    assert np.abs(np.array(found.face_box).reshape(2, 2).mean(axis=0) - (1539, 739)).max() < 10


def test_a_number_counts_small_faces_of_a_large_picture(load):
    picture = on_wall(FACE, 120, (200, 300), (1000, 800))
    picture.paste(OTHER.resize((80, 80), Image.Resampling.LANCZOS), (700, 300))
    assert load(png(picture), face="2").face_box[0] > 700


# --- Animations ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["WEBP", "PNG", "default image"])
@pytest.mark.parametrize("before", [[BLANK], [BLANK, NOISE, BLANK], []], ids=["blank", "without a face", "none"])
def test_of_an_animation_the_first_frame_with_a_face_is_taken(load, kind, before):
    data = animation(kind, *before, FACE, OTHER)
    found = load(data)
    assert found.frame == len(before) + 1
    assert np.array_equal(found.pixels, load(png(FACE)).pixels)
    [note] = found.notes
    assert note.code == "image_animated"
    assert (
        f"animation of {len(before) + 2} frames; frame {len(before) + 1}, the first that shows a face" in note.message
    )


def test_a_frame_that_lies_on_its_side_has_both_notes(load):
    lying = Image.fromarray(turned(np.asarray(FACE), 90))
    found = load(animation("WEBP", BLANK, lying))
    assert [note.code for note in found.notes] == ["image_animated", "portrait_turned"]


def test_an_animation_without_a_face_says_how_far_it_was_searched(load):
    error = refusal(load, animation("WEBP", BLANK, NOISE))
    assert error.code == "face_not_found"
    assert "an animation of 2 frames, and none of the first 2 shows a face" in error.message


def test_the_search_in_an_animation_is_bounded(load):
    steps = [Image.new("RGB", (64, 64), (number, 0, 0)) for number in range(MAX_FRAMES + 1)]
    long = animation("PNG", *steps, FACE.resize((64, 64)))
    assert f"none of the first {MAX_FRAMES} shows a face" in refusal(load, long).message
    large = animation("PNG", BLANK, BLANK.point(lambda level: level - 1), FACE)
    assert "none of the first 2 shows a face" in refusal(load, large, max_image_megapixels=2.5 * 160**2 / 1e6).message


def test_of_an_animation_without_crop_the_first_frame_that_is_not_blank_is_taken(load):
    found = load(animation("WEBP", BLANK, FACE), crop="none")
    assert found.frame == 2
    assert "the first that is not blank" in found.notes[0].message
    assert load(animation("WEBP", FACE, OTHER), crop="none").frame == 1


def test_a_damaged_frame_ends_the_search(load):
    data = animation("PNG", BLANK, FACE, OTHER)
    at = data.index(b"fdAT") + 8
    damaged = data[:at] + bytes(200) + data[at + 200 :]
    assert refusal(load, damaged).code == "face_not_found"


# --- The same portrait again -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        png(FACE),
        png(Image.fromarray(turned(np.asarray(FACE), 90))),
        animation("WEBP", BLANK, Image.fromarray(turned(np.asarray(FACE), 180))),
    ],
    ids=["upright", "lying", "upside down in an animation"],
)
@pytest.mark.parametrize("crop", ["auto", "none"])
def test_what_was_found_leads_to_the_same_pixels(load, data, crop):
    found = load(data, crop=crop)
    again = recropped(reload_upright(data, Limits(), found.turn, found.frame), found.face_box, SIZE)
    assert np.array_equal(again, found.pixels)
