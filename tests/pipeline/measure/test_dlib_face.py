"""Distances between faces by dlib's embedding: the same person near, others far, and drift in films."""

import sys

import dlib
import numpy as np
import pytest
from PIL import Image, ImageEnhance

from pipeline.common.errors import RefusedError
from pipeline.common.options import SettingError
from pipeline.face.crop import crop_square
from pipeline.face.detector import FaceDetector
from pipeline.measure.dlib_face import PADDING, WEIGHTS, DlibFace, weights_file
from pipeline.qc.judge import Judge
from pipeline.qc.verdict import judge
from tests import media
from tests.synthetic_videos import SIZE, SyntheticVideo, speech

PEOPLE = ("astronaut", "2011", "2017")


@pytest.fixture(scope="module")
def detector():
    return FaceDetector()


@pytest.fixture(scope="module")
def embed():
    return DlibFace()


@pytest.fixture(scope="module")
def embedded(detector, embed):
    """A picture -> the embedding of its largest face."""

    def embedded(picture):
        pixels = np.asarray(picture)
        return embed(pixels, detector.detect(pixels)[0].landmarks)

    return embedded


@pytest.fixture(scope="module")
def portraits():
    return [Image.open(media.DEMO / f"portrait_{name}.png").convert("RGB") for name in PEOPLE]


def test_the_weights_are_found_without_importing_their_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    assert weights_file().name == WEIGHTS
    assert "face_recognition_models" not in sys.modules
    monkeypatch.setattr("pipeline.measure.dlib_face.SHA256", "0" * 64)
    with pytest.raises(SettingError, match=r"dlib_distance: .*force-reinstall face-recognition-models"):
        weights_file()
    monkeypatch.setitem(sys.modules, "dlib", None)
    with pytest.raises(RefusedError, match=r"need dlib, which is not.*floatcast\[identity\]"):
        weights_file()


def test_a_changed_picture_of_a_person_is_near_and_another_person_far(embedded, portraits):
    known = [embedded(portrait) for portrait in portraits]
    apart = [np.linalg.norm(known[i] - known[j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert min(apart) > 0.5
    for portrait, embedding in zip(portraits, known, strict=True):
        small = portrait.resize((256, 256), Image.Resampling.LANCZOS)
        for changed in (portrait.rotate(20), small, ImageEnhance.Brightness(portrait).enhance(0.6)):
            assert np.linalg.norm(embedded(changed) - embedding) < 0.3


def test_our_alignment_gives_what_dlibs_own_gives(embedded, portraits):
    folder = weights_file().parent
    network = dlib.face_recognition_model_v1(str(folder / WEIGHTS))
    predictor = dlib.shape_predictor(str(folder / "shape_predictor_5_face_landmarks.dat"))
    for portrait in portraits:
        pixels = np.asarray(portrait)
        box = dlib.get_frontal_face_detector()(pixels, 0)[0]
        theirs = network.compute_face_descriptor(pixels, predictor(pixels, box), 0, PADDING)
        assert np.linalg.norm(embedded(pixels) - np.array(theirs)) < 0.2


def test_a_face_at_the_border_of_the_picture_is_measured(embedded, portraits):
    whole = embedded(portraits[0])
    left, top, right, _ = FaceDetector().detect(np.asarray(portraits[0]))[0].box
    cut = portraits[0].crop((int(left) - 2, int(top) - 2, int(right) + 2, 512))
    assert np.linalg.norm(embedded(cut) - whole) < 0.4


@pytest.mark.slow
def test_a_film_in_which_another_face_appears_is_flagged(tmp_path):
    video_judge, wave = Judge(dlib=True), speech(3.0)
    stranger = np.asarray(Image.open(media.DEMO / "portrait_2016.png").convert("RGB"))
    other = crop_square(stranger, FaceDetector().detect(stranger)[0].box, SIZE)

    def spliced(number, picture):
        return other if 30 <= number < 60 else picture

    right = video_judge.inspect(SyntheticVideo(wave=wave).write(tmp_path / "right.mp4"))
    wrong = video_judge.inspect(SyntheticVideo(wave=wave, edit=spliced).write(tmp_path / "wrong.mp4"))
    assert "dlib_distance_high" not in judge(right.metrics).reasons
    assert wrong.metrics["qc_dlib_distance"] > 0.6
    assert "dlib_distance_high" in judge(wrong.metrics).reasons
    assert wrong.metrics.get("qc_identity") is None  # that is ArcFace's alone
