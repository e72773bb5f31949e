import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from pipeline.face import upright as module
from pipeline.face.detector import FaceDetector
from pipeline.face.upright import turned, upright_faces
from tests import media

PORTRAITS = sorted(media.DEMO.glob("portrait_*.png"))
GREY = (128, 128, 128)


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


def opened(path, side=256):
    return Image.open(path).convert("RGB").resize((side, side))


@pytest.mark.parametrize("path", PORTRAITS, ids=lambda path: path.stem)
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_portrait_is_upright_however_it_lies(detector, path, turn):
    """Also upside down, although the detector then takes three of the five for upright faces."""
    image = np.asarray(opened(path))
    expected = detector.detect(image)[0]
    found = upright_faces(turned(image, turn), detector)
    assert found.turn == (360 - turn) % 360
    assert np.array_equal(found.image, image)
    assert found.faces[0].box == expected.box


VARIATIONS = {
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(1.5)),
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.25),
    "pale": lambda image: ImageEnhance.Contrast(image).enhance(0.4),
    "grey": lambda image: image.convert("L").convert("RGB"),
    "mirrored": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "small": lambda image: image.resize((96, 96)),
    "tilted left": lambda image: image.rotate(30, Image.Resampling.BICUBIC, fillcolor=GREY),
    "tilted right": lambda image: image.rotate(-40, Image.Resampling.BICUBIC, fillcolor=GREY),
}


@pytest.mark.parametrize("variation", VARIATIONS.values(), ids=VARIATIONS)
def test_an_upright_portrait_is_never_turned_and_an_upside_down_one_always(detector, variation):
    for path in PORTRAITS[1:4]:
        image = np.asarray(variation(opened(path)))
        assert upright_faces(image, detector).turn == 0
        assert upright_faces(turned(image, 180), detector).turn == 180


@pytest.mark.parametrize("roll", [60, 120, -60, -120])
def test_the_nearest_quarter_turn_is_taken(detector, roll):
    image = opened(PORTRAITS[1]).rotate(-roll, Image.Resampling.BICUBIC, fillcolor=GREY)
    found = upright_faces(np.asarray(image), detector)
    assert found.turn == {60: 270, 120: 270, -60: 90, -120: 90}[roll]
    assert module._is_level(found.faces[0])


def test_an_ordinary_portrait_is_looked_at_once(detector):
    class Counting:
        looks = 0

        def detect(self, image):
            self.looks += 1
            return detector.detect(image)

    for path in PORTRAITS:
        upright_faces(np.asarray(opened(path)), counting := Counting())
        assert counting.looks == 1


def test_a_large_image_is_tried_on_a_small_copy(detector, monkeypatch):
    monkeypatch.setattr(module, "SEARCH_SIDE", 100)
    image = np.asarray(opened(PORTRAITS[0], 512))
    found = upright_faces(turned(image, 90), detector)
    assert found.turn == 270
    assert found.faces[0].box == detector.detect(image)[0].box


def test_a_strip_is_no_portrait_and_looked_at_in_one_way(detector):
    strip = np.full((100, 1000, 3), 128, np.uint8)
    strip[:, :100] = turned(np.asarray(opened(PORTRAITS[0], 100)), 180)
    assert upright_faces(strip, detector).turn == 0


def test_an_image_without_a_face_stays_as_it_is(detector):
    image = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    found = upright_faces(image, detector)
    assert (found.turn, found.faces) == (0, [])
    assert found.image is image


def test_turns_are_clockwise():
    image = np.arange(6).reshape(2, 3)
    assert turned(image, 90).tolist() == [[3, 0], [4, 1], [5, 2]]
    assert turned(image, 0) is image
    assert np.array_equal(turned(turned(image, 270), 90), image)
