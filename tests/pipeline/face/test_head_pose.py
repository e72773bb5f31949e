import numpy as np
import pytest

from pipeline.common.limits import Limits
from pipeline.face.detector import FaceDetector
from pipeline.face.head_pose import MESH, canonical_mesh, head_pose, pose_of
from pipeline.media.image import load_image
from tests import media


def turned(yaw=0.0, pitch=0.0, roll=0.0):
    """The canonical mesh as landmarks in pixels, turned by degrees."""
    a, b, c = np.radians([yaw, pitch, roll])
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    about_z = np.array([[np.cos(c), np.sin(c), 0], [-np.sin(c), np.cos(c), 0], [0, 0, 1]])
    points = np.load(MESH) @ (about_z @ about_x @ about_y).T
    return (150 * points * (1, -1, -1) + (256, 200, 0)).astype(np.float32)


@pytest.mark.parametrize(("name", "degrees"), [("yaw", 40), ("yaw", -75), ("pitch", 25), ("pitch", -20), ("roll", 30)])
def test_a_turn_about_one_axis_is_found_exactly(name, degrees):
    pose = pose_of(turned(**{name: degrees}))
    for axis in ("yaw", "pitch", "roll"):
        assert getattr(pose, axis) == pytest.approx(degrees if axis == name else 0, abs=0.01)


def test_roll_is_clockwise_as_seen_and_yaw_to_the_right_of_the_image():
    nose, eyes = 1, (33, 263)
    leaning = turned(roll=20)
    assert leaning[eyes[1], 1] > leaning[eyes[0], 1]  # the eye on the right of the picture is lower
    right = turned(yaw=30)
    assert right[nose, 0] > right[list(eyes), 0].mean()
    up = turned(pitch=20)
    assert up[nose, 1] < turned()[nose, 1]


def test_the_mesh_comes_from_the_demos_photograph():
    image = load_image(media.PORTRAIT.read_bytes(), Limits())
    made = canonical_mesh(FaceDetector().detect(image)[0].landmarks)
    assert np.abs(made - np.load(MESH)).max() < 0.01


def test_a_mirrored_photograph_looks_the_other_way():
    image = load_image(media.PORTRAIT.read_bytes(), Limits())
    detector = FaceDetector()
    one, other = (pose_of(detector.detect(picture)[0].landmarks) for picture in (image, image[:, ::-1].copy()))
    assert one.roll == pytest.approx(-other.roll, abs=1)
    assert one.yaw == pytest.approx(-other.yaw, abs=3)
    assert one.pitch == pytest.approx(other.pitch, abs=3)


def test_head_pose_has_angles_place_and_size():
    landmarks = turned(yaw=20, pitch=-10, roll=5)  # 150 px a unit around (256, 200)
    found = head_pose(landmarks, 512)
    angles = pose_of(landmarks)
    assert found[:3] == pytest.approx(np.radians([angles.yaw, angles.pitch, angles.roll]), abs=1e-5)
    assert found[3:] == pytest.approx([0, 200 / 512 - 0.5, 150 / 512], abs=1e-5)
    assert head_pose(landmarks + np.array([51.2, 0, 0]), 512)[3] == pytest.approx(0.1, abs=1e-5)
